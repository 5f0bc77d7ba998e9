-- KEYS leases, epoch · ARGV room, the lease as the caller saw it ("EPOCH HOLDER", empty = none), worker
-- Replies the new epoch, 0 if the lease is not as seen.
local lease = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if lease ~= ARGV[2] then
  return 0
end
local epoch = redis.call('INCR', KEYS[2])
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', epoch) .. ' ' .. ARGV[3])
return epoch
