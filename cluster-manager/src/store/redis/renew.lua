-- KEYS who leads, the last term · ARGV who leads as the member believes (itself), its term, ms that the lease lasts
-- Replies who leads now: nobody if the lease ran out and somebody led since.
local leads = redis.call('GET', KEYS[1])
if leads and leads ~= ARGV[1] then
  return leads
end
-- The server may have lost what it was told last; then the member restores it.
if not leads and tonumber(redis.call('GET', KEYS[2]) or '0') > tonumber(ARGV[2]) then
  return ''
end
redis.call('SET', KEYS[2], ARGV[2])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return ARGV[1]
