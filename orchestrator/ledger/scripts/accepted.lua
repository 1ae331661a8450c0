-- Purpose: record that the provider accepted the attempt and named its task. This is a fact. It needs
--   no lease, and may be recorded at any time.
-- KEYS: 1 job, 2 events, 3 agenda
-- ARGV: 1 now ms, 2 attempt, 3 provider task id, 4 due at ms if no duration is known, 5 cost JSON
--       ('' unknown), 6 detail JSON of a mismatch, 7 which learned duration decides when the job is due: early, late or
--       '' (none), 8 due at ms at the earliest, 9 pending failure JSON ('' none; one that is known stays)
-- Returns: running | settled (the job has its outcome) | superseded (a newer attempt exists)
--   | mismatch (the attempt was not sent, or has another task) | missing
local now, attempt, task_id, due_at, cost, detail =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local which, earliest, pending_failure = ARGV[7], tonumber(ARGV[8]), ARGV[9]

local status, bound, sent, request = read_job('task.' .. attempt, 'sent.' .. attempt, 'request')
if not status then
  return {'missing'}
end
if not bind_task(attempt, task_id, bound, sent) then
  count_event(now, 'mismatch', detail)
  return {'mismatch'}
end
provider_answered(now, provider_of(attempt))
add_event(now, 'accepted', '{"attempt":' .. attempt .. '}')
if cost ~= '' then
  redis.call('HSETNX', job_key, 'cost', cost) -- the cost of the outcome takes precedence
end
if pending_failure ~= '' and FLOWS[status] and job.attempt == attempt then
  redis.call('HSETNX', job_key, 'pending_failure', pending_failure)
end
if not FLOWS[status] or job.attempt ~= attempt or status == 'running' then
  set('task.' .. attempt, task_id, 'updated', now)
else
  if job.moves then
    accounts().return_to(now, attempt)
  end
  local running = change_status('running', 'task.' .. attempt, task_id, 'updated', now)
  prove_places(now, running)
  release_lease('tries')
  local wait = learned_wait(request, which, sent)
  if wait then
    due_at = math.min(math.max(sent + wait, earliest), math.max(job.deadline, now))
  end
  reschedule('running', due_at)
end
if not FLOWS[status] then
  return {'settled'}
end
return {job.attempt == attempt and 'running' or 'superseded'}
