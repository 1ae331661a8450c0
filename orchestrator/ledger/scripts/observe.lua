-- Purpose: record a verified callback that must not settle the job: its state is not terminal, it is
--   a success without a result, or the provider is configured to confirm. It proves that the task
--   exists. So the task is bound to the attempt, and the job is running.
-- KEYS: 1 job, 2 events, 3 agenda
-- ARGV: 1 now ms, 2 attempt, 3 provider task id ('' if the body could not be read),
--       4 due at ms ('' unchanged), 5 due at ms of a job that was not running before, 6 detail JSON,
--       7 pending failure JSON ('' none; one that is known stays)
-- Returns: running | recorded (the task is still unknown) | duplicate (the job has its outcome)
--   | superseded (a newer attempt exists)
--   | mismatch (the attempt was not sent, or has another task) | missing
local now, attempt, task_id, due_at, fallback, detail =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local pending_failure = ARGV[7]

local status = get('status')
if not status then
  return {'missing'}
end
if task_id ~= '' and not bind_task(attempt, task_id) then
  add_event(now, 'mismatch', detail)
  return {'mismatch'}
end
add_event(now, 'callback', detail)
set('updated', now)
if TERMINAL[status] then
  return {'duplicate'}
end
if get('attempt') ~= attempt then
  return {'superseded'}
end
if pending_failure ~= '' then
  redis.call('HSETNX', key.job, 'pending_failure', pending_failure)
end
if status ~= 'running' and task_id == '' then
  return {'recorded'}
end
if status ~= 'running' then
  change_status(status, 'running', 'tries', 0)
  prove_places(now)
  due_at = due_at ~= '' and due_at or fallback
end
if due_at ~= '' then
  release_lease()
  reschedule('running', due_at)
end
return {'running'}
