-- Purpose: end an attempt without an outcome. Another attempt comes later. Either the provider refused
--   this one for now (event deferred), or the caller allowed a second submission of an unconfirmed
--   attempt (event resubmitted, at most once per job).
-- KEYS: 1 job, 2 events, 3 agenda
-- ARGV: 1 now ms, 2 attempt, 3 lease token, 4 due at ms, 5 tries, 6 event name, 7 detail JSON,
--       8 refusal JSON ('' none), 9 what it shows of the provider: busy, failed, answered, or ''
-- Returns: queued | stale (the caller does not hold the lease, or the attempt has a task) | missing
local now, attempt, lease, due_at, tries, name, detail, refusal, shows =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]

local status = get('status')
if not status then
  return {'missing'}
end
if not holds_lease(lease, attempt) then
  return {'stale'}
end
change_status(status, 'queued', 'tries', tries, 'updated', now)
if refusal ~= '' then
  set('refusal', refusal)
end
release_lease()
reschedule('queued', due_at)
add_event(now, name, detail)
local landed = attempt
if name == 'resubmitted' then -- this attempt may still be in flight; the one before it has ended
  landed = get('resubmitted') or ''
  set('resubmitted', attempt)
end
redis.call('ZREM', shard .. 'in_flight:' .. owner(), job_id .. '.' .. landed)
learn(tonumber(now), shows, refusal)
return {'queued'}
