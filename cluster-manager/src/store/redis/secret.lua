-- KEYS secrets · ARGV name, what it is to be if it is new, most secrets
local kept = redis.call('HGET', KEYS[1], ARGV[1])
if kept then
  return kept
end
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then
  return false
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return ARGV[2]
