-- KEYS leases, the room's snapshot, versions of snapshots
-- ARGV room, epoch, version, whole (1), number of parts, key, value, key, value, …, keys that are removed
local lease = redis.call('HGET', KEYS[1], ARGV[1])
if not lease or string.match(lease, '^(%d+) ') ~= ARGV[2] then
  return 'fenced'
end
local kept = redis.call('HGET', KEYS[3], ARGV[1])
if ARGV[4] == '1' then
  redis.call('DEL', KEYS[2])
elseif not kept or tonumber(kept) + 1 ~= tonumber(ARGV[3]) then
  return 'other'
end
redis.call('HSET', KEYS[3], ARGV[1], ARGV[3])
local last = 5 + 2 * tonumber(ARGV[5])
for i = 6, last, 2 do
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
end
for i = last + 1, #ARGV do
  redis.call('HDEL', KEYS[2], ARGV[i])
end
return 'ok'
