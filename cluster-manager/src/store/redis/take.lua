-- KEYS values, index, expiries · ARGV key
local value = redis.call('HGET', KEYS[1], ARGV[1])
if not value then
  return false
end
local expires = redis.call('ZSCORE', KEYS[3], ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
if expires then
  local time = redis.call('TIME')
  if tonumber(expires) <= time[1] * 1000 + math.floor(time[2] / 1000) then
    return false
  end
end
return value
