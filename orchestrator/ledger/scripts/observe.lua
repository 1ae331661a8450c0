-- Purpose: a verified callback shows that the provider task exists, and is not to settle the job:
--   it is not terminal, or the provider is set to confirm. Binds the task; the job is running.
-- KEYS: 1 job, 2 events, 3 agenda
-- ARGV: 1 now ms, 2 attempt, 3 provider task id, 4 next look ms ('' leaves the planned one),
--       5 next look ms of a job that was not known to run, 6 detail JSON
-- Returns: running | duplicate (has its outcome already) | superseded (a newer attempt is under way)
--   | mismatch (the attempt is another provider task) | missing
local now, attempt, task_id, due_at, fallback, detail =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]

local status = get('status')
if not status then
  return {'missing'}
end
if not bind(attempt, task_id) then
  event(now, 'mismatch', detail)
  return {'mismatch'}
end
event(now, 'callback', detail)
set('updated', now)
if TERMINAL[status] then
  return {'duplicate'}
end
if get('attempt') ~= attempt then
  return {'superseded'}
end
if status ~= 'running' then
  become(status, 'running', 'tries', 0)
  due_at = due_at ~= '' and due_at or fallback
end
if due_at ~= '' then
  release()
  reschedule(due_at)
end
return {'running'}
