-- KEYS leases · ARGV room, worker
local lease = redis.call('HGET', KEYS[1], ARGV[1])
if not lease or string.match(lease, '^%d+ (.*)$') ~= ARGV[2] then
  return 0
end
return redis.call('HDEL', KEYS[1], ARGV[1])
