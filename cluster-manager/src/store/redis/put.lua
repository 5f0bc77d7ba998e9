-- KEYS values, index, expiries
-- ARGV key, value, ttl in ms (0 = never), 'replace', 'create' or 'swap', most documents, what is there if it is a swap
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local kept = redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1
local expires = redis.call('ZSCORE', KEYS[3], ARGV[1])
local there = kept and not (expires and tonumber(expires) <= now)
if there and ARGV[4] == 'create' then
  return 'exists'
end
if ARGV[4] == 'swap' and not (there and redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[6]) then
  return 'changed'
end
if not kept and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[5]) then
  return 'full'
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], 0, ARGV[1])
local ttl = tonumber(ARGV[3])
if ttl > 0 then
  redis.call('ZADD', KEYS[3], now + ttl, ARGV[1])
else
  redis.call('ZREM', KEYS[3], ARGV[1])
end
return 'ok'
