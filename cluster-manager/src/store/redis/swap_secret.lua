-- KEYS secrets · ARGV name, what is there, what it is to be
-- Replies 1, or 0 if something else is there.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
