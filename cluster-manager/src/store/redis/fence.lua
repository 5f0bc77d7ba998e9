-- Before every script that writes. The last key is the fence, in the same slot as what is written; the last argument the writer's term
-- of leadership (0 = it does not lead yet). The fence is the last term in which anybody wrote or was about to.
do
  local fence = table.remove(KEYS)
  local term = tonumber(table.remove(ARGV))
  if term > 0 then
    local raised = tonumber(redis.call('GET', fence) or '0')
    if raised > term then
      return redis.error_reply('FENCED another cluster-manager leads')
    end
    if raised < term then
      redis.call('SET', fence, string.format('%.0f', term))
    end
  end
end
