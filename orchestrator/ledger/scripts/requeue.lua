-- Purpose: the attempt ended without an outcome, and another attempt follows. The provider refused
--   for now (event deferred), or an unconfirmed attempt is submitted again (event resubmitted, at
--   most once per job).
-- KEYS: 1 job, 2 events, 3 agenda
-- ARGV: 1 now ms, 2 attempt, 3 lease token, 4 due at ms, 5 tries, 6 event name, 7 detail JSON
-- Returns: queued | stale (the lease is another's, or the attempt has a task) | missing
local now, attempt, lease, due_at, tries, name, detail =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]

local status = get('status')
if not status then
  return {'missing'}
end
if not holds(lease, attempt) then
  return {'stale'}
end
become(status, 'queued', 'tries', tries, 'updated', now)
release()
reschedule(due_at)
event(now, name, detail)
if name == 'resubmitted' then
  set('resubmitted', attempt)
end
return {'queued'}
