-- Purpose: end an attempt without an outcome. Another attempt comes later. Either the provider refused
--   this one for now (event deferred), or the caller allowed a second submission of an unconfirmed
--   attempt (event resubmitted, at most once per job).
-- KEYS: 1 job, 2 events, 3 agenda
-- ARGV: 1 now ms, 2 attempt, 3 lease token, 4 due at ms, 5 tries, 6 event name, 7 detail JSON,
--       8 refusal JSON ('' none)
-- Returns: queued | stale (the caller does not hold the lease, or the attempt has a task) | missing
local now, attempt, lease, due_at, tries, name, detail, refusal =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]

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
reschedule(due_at)
add_event(now, name, detail)
if name == 'resubmitted' then
  set('resubmitted', attempt)
end
return {'queued'}
