-- KEYS leases, versions of snapshots
-- Replies room, lease, room, lease, …
local found = {}
for _, room in ipairs(redis.call('HKEYS', KEYS[2])) do
  local lease = redis.call('HGET', KEYS[1], room)
  if lease then
    found[#found + 1] = room
    found[#found + 1] = lease
  end
end
return found
