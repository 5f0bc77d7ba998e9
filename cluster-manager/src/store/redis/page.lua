-- KEYS values, index, expiries
-- ARGV lower and upper bound as of ZRANGEBYLEX, most documents, most bytes, what each document costs beside key and value
-- Replies whether there are more (1), and key, value, key, value, …
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local from = ARGV[1]
local limit = tonumber(ARGV[3])
local left = tonumber(ARGV[4])
local found = {}
while true do
  local keys = redis.call('ZRANGEBYLEX', KEYS[2], from, ARGV[2], 'LIMIT', 0, 500)
  if #keys == 0 then
    return {0, found}
  end
  local expiries = redis.call('ZMSCORE', KEYS[3], unpack(keys))
  for i, key in ipairs(keys) do
    local expired = expiries[i] and tonumber(expiries[i]) <= now
    if not expired and redis.call('HEXISTS', KEYS[1], key) == 1 then
      -- By its length first: what does not fit is not brought into memory.
      left = left - #key - redis.call('HSTRLEN', KEYS[1], key) - tonumber(ARGV[5])
      if #found >= 2 * limit or (left < 0 and #found > 0) then
        return {1, found}
      end
      found[#found + 1] = key
      found[#found + 1] = redis.call('HGET', KEYS[1], key)
    end
  end
  from = '(' .. keys[#keys]
end
