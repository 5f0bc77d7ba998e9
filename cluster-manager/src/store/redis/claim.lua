-- KEYS who leads, the last term
-- ARGV member, endpoint, ms that the lease lasts, the last term that the member knows of, who leads as it saw him if he is known to
--      be dead (else empty)
-- Who leads is "TERM MEMBER ENDPOINT". Replies who leads now.
local leads = redis.call('GET', KEYS[1])
if leads and leads ~= ARGV[5] and string.match(leads, '^%d+ (%S+)') ~= ARGV[1] then
  return leads
end
local last = math.max(tonumber(redis.call('GET', KEYS[2]) or '0'), tonumber(ARGV[4]))
local term = string.format('%.0f', last + 1)
leads = term .. ' ' .. ARGV[1] .. ' ' .. ARGV[2]
redis.call('SET', KEYS[2], term)
redis.call('SET', KEYS[1], leads, 'PX', ARGV[3])
return leads
