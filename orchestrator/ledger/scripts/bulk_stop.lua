-- Purpose: stop a bulk action. A worker that has a part records what it did with it. The audit trail gets
--   one entry.
-- KEYS: 1 bulk action, 2 its parts, 3 bulk actions of its tenant, 4 started ones, 5 audit trail
-- ARGV: 1 id, 2 now ms, 3 who asks, 4 most entries of the audit trail
-- Returns: stopped | replayed (it has ended) | missing (there is none, or it was not started)
local id, now, actor, entries = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local started, finished, tenant = unpack(redis.call('HMGET', KEYS[1], 'started', 'finished', 'tenant'))
if not started then
  return {'missing'}
elseif finished then
  return {'replayed'}
end
redis.call('HSET', KEYS[1], 'finished', now, 'stopped', actor, 'waits', '')
redis.call('DEL', KEYS[2])
redis.call('ZREM', KEYS[3], id)
redis.call('ZREM', KEYS[4], id)
redis.call('XADD', KEYS[5], 'MAXLEN', '~', entries, '*', 'at', now, 'actor', actor,
  'action', 'bulk_stop', 'target', id, 'tenant', tenant)
return {'stopped'}
