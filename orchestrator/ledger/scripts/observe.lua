-- Purpose: record a verified callback that must not settle the job: its state is not terminal, it is
--   a success without a result, or the provider is configured to confirm. It proves that the task
--   exists. So the task is bound to the attempt, and the job is running.
-- KEYS: 1 job, 2 events, 3 agenda
-- ARGV: 1 now ms, 2 attempt, 3 provider task id ('' if the body could not be read),
--       4 due at ms ('' unchanged), 5 due at ms of a job that was not running before, 6 detail JSON,
--       7 pending failure JSON ('' none; one that is known stays),
--       8 '1' if the task may have made images
-- Returns: running | recorded (the task is still unknown) | duplicate (the job has its outcome)
--   | superseded (a newer attempt exists)
--   | unproven, confirm (no poll queries this task any more, and it may have made images that the job
--     does not have: the confirm step is due)
--   | mismatch (the attempt was not sent, or has another task) | missing
local now, attempt, task_id, due_at, fallback, detail =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local pending_failure, may_have_images = ARGV[7], ARGV[8]

local status, bound, sent = read_job('task.' .. attempt, 'sent.' .. attempt)
if not status then
  return {'missing'}
end
if task_id ~= '' and not bind_task(attempt, task_id, bound, sent) then
  count_event(now, 'mismatch', detail)
  return {'mismatch'}
end
add_event(now, 'callback', detail)
if task_id ~= '' then
  set('task.' .. attempt, task_id, 'updated', now)
else
  set('updated', now)
end
if not FLOWS[status] or job.attempt ~= attempt then
  if may_have_images == '1' and lacks_images(status, attempt) then
    confirm(now, attempt)
    return {'unproven', 'confirm'}
  end
  return {not FLOWS[status] and 'duplicate' or 'superseded'}
end
if pending_failure ~= '' then
  redis.call('HSETNX', job_key, 'pending_failure', pending_failure)
end
if status ~= 'running' and task_id == '' then
  return {'recorded'}
end
if job.moves then
  accounts().return_to(now, attempt)
end
if status ~= 'running' then
  local running = change_status('running')
  redis.call('HDEL', job_key, 'tries')
  prove_places(now, running)
  due_at = due_at ~= '' and due_at or fallback
end
if due_at ~= '' then
  release_lease()
  reschedule('running', due_at)
end
return {'running'}
