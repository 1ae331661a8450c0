-- Purpose: the attempt may have reached the provider, and no readable answer came. The same attempt
--   is due again later. No new attempt is made.
-- KEYS: 1 job, 2 events, 3 agenda
-- ARGV: 1 now ms, 2 attempt, 3 lease token, 4 due at ms, 5 tries, 6 detail JSON
-- Returns: unconfirmed | stale (the lease is another's, or the attempt has a task) | missing
local now, attempt, lease, due_at, tries, detail =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]

local status = get('status')
if not status then
  return {'missing'}
end
if not holds(lease, attempt) then
  return {'stale'}
end
become(status, 'unconfirmed', 'tries', tries, 'updated', now)
risk(now, attempt)
release()
reschedule(due_at)
event(now, 'unconfirmed', detail)
return {'unconfirmed'}
