-- Purpose: start a bulk action that was previewed, once. The audit trail gets one entry.
-- KEYS: 1 bulk action, 2 its parts, 3 bulk actions of its tenant, 4 started ones, 5 audit trail,
--   6 list of all that were started
-- ARGV: 1 id, 2 now ms, 3 who asks, 4 accepts the risk to pay twice ('1' or ''), 5 lifetime ms,
--   6 most started bulk actions of the tenant, 7 most entries of the audit trail,
--   8 most entries of the list
-- Returns: started | replayed (it was started before) | missing | limited
local id, now, actor, risk, lifetime = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local most, entries, listed = tonumber(ARGV[6]), ARGV[7], tonumber(ARGV[8])

local root = string.match(KEYS[1], '^.-}:')
local action, started, parts, tenant, jobs = unpack(redis.call('HMGET', KEYS[1], 'action', 'started',
  'parts', 'tenant', 'applies'))
if not action then
  return {'missing'}
elseif started then
  return {'replayed'}
end
local running = 0
for _, each in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
  if redis.call('HGET', root .. 'bulk:' .. each, 'started') then
    running = running + 1
  end
end
if running >= most then
  return {'limited'}
end
redis.call('HSET', KEYS[1], 'started', now, 'actor', actor, 'risk', risk)
redis.call('PEXPIRE', KEYS[1], lifetime)
if parts == '0' then
  redis.call('HSET', KEYS[1], 'finished', now)
  redis.call('ZREM', KEYS[3], id)
else
  redis.call('PEXPIRE', KEYS[2], lifetime)
  redis.call('PEXPIRE', KEYS[3], lifetime)
  redis.call('ZADD', KEYS[4], now, id)
end
redis.call('ZADD', KEYS[6], now, id)
redis.call('ZREMRANGEBYRANK', KEYS[6], 0, -listed - 1)
redis.call('XADD', KEYS[5], 'MAXLEN', '~', entries, '*', 'at', now, 'actor', actor,
  'action', 'bulk_' .. action, 'target', id, 'tenant', tenant, 'jobs', jobs)
return {'started'}
