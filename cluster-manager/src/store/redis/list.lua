-- KEYS values, index, expiries · ARGV lower bound as of ZRANGEBYLEX, most documents
-- Replies key, value, key, value, …
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local limit = tonumber(ARGV[2])
local from = ARGV[1]
local found = {}
while #found < 2 * limit do
  local page = redis.call('ZRANGEBYLEX', KEYS[2], from, '+', 'LIMIT', 0, math.min(limit, 500))
  if #page == 0 then
    break
  end
  local values = redis.call('HMGET', KEYS[1], unpack(page))
  local expiries = redis.call('ZMSCORE', KEYS[3], unpack(page))
  for i, key in ipairs(page) do
    local expired = expiries[i] and tonumber(expiries[i]) <= now
    if values[i] and not expired and #found < 2 * limit then
      found[#found + 1] = key
      found[#found + 1] = values[i]
    end
  end
  from = '(' .. page[#page]
end
return found
