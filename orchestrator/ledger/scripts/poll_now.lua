-- Purpose: make the poll of a running job due now, because somebody asked for it.
-- KEYS: 1 job, 2 events, 3 agenda
-- ARGV: 1 now ms, 2 shortest time between two such calls, ms
-- Returns: running (a poll is due, or runs now) | limited (the last such call was too recent)
--   | open (no provider task is known yet) | terminal | missing
local now, interval = ARGV[1], ARGV[2]

local status, asked = read_job('poll_asked')
if not status then
  return {'missing'}
end
if status ~= 'running' then
  return {FLOWS[status] and 'open' or 'terminal'}
end
if asked == now then -- the call was repeated
  return {'running'}
end
if asked and now - asked < tonumber(interval) then
  return {'limited'}
end
set('poll_asked', now)
add_event(now, 'poll_asked', '{}')
if not job.lease then -- otherwise a worker polls it now, or the lease has ended and the job is due
  reschedule('running', now)
end
return {'running'}
