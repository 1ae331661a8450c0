-- Purpose: give a job its only outcome. A second outcome is only recorded. A worker needs the lease.
-- KEYS: 1 job, 2 events, 3 agenda
-- ARGV: 1 now ms, 2 attempt, 3 lease token ('' for a callback), 4 provider task id ('' unknown),
--       5 status, 6 by, 7 images JSON, 8 error JSON, 9 cost JSON ('' for each that is absent),
--       10 retention ms, 11 detail JSON, 12 expiry of the first image link ms ('' not archived), 13 '1' if a task took a time
-- Returns: settled, due follow-ups, ...
--   | late, due follow-ups, ... (the outcome stands; the images of this success are kept as late images)
--   | duplicate (the same outcome, or the same late result) | conflict (another outcome)
--   | superseded (an older attempt failed, and a newer attempt exists)
--   | mismatch (the attempt was not sent, or has another task, or another job has the task)
--   | unproven (a callback fails or cancels a job after a success whose images are looked for; a poll is due and decides)
--   | stale (the caller does not hold the lease) | missing
local now, attempt, lease, task_id, status, by = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local images, error, cost, retention, detail = ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[11]
local expires, took_time = ARGV[12], ARGV[13]

local current, winner, bound, sent, notify, reserved, seen, request = read_job('winner',
  'task.' .. attempt, 'sent.' .. attempt, 'notify', 'reserved', 'seen_running', 'request')
if not current then
  return {'missing'}
end
if task_id ~= '' and not bind_task(attempt, task_id, bound, sent) then
  count_event(now, 'mismatch', detail)
  return {'mismatch'}
elseif task_id ~= '' and not bound then
  set('task.' .. attempt, task_id)
end
if not FLOWS[current] then
  local same = current == status and winner == attempt
  if status == 'succeeded' and not same and not get('late.' .. attempt) then
    return {'late', unpack(add_late_result(now, attempt, images, expires, detail))}
  end
  local repeated = same or status == 'succeeded'
  local name = repeated and 'duplicate' or 'conflict'
  count_event(now, name, detail)
  return {name}
end
if lease ~= '' and job.lease ~= lease then
  return {'stale'}
end
if job.attempt ~= attempt and status ~= 'succeeded' then
  count_event(now, 'superseded', detail)
  return {'superseded'}
end
if by == 'callback' and status ~= 'succeeded' and poll_instead(now, detail) then
  return {'unproven'}
end
local fields = {'winner', attempt}
for name, value in pairs({images = images, error = error, cost = cost}) do
  if value ~= '' then
    fields[#fields + 1], fields[#fields + 2] = name, value
  end
end
if job.moves then
  accounts().return_to(now, attempt)
  reserved = get('reserved')
end
if took_time == '1' and sent and job.attempt == attempt then
  note_duration(now, sent, seen, request, by)
end
local follow_ups = settle(now, status, by, retention, expires, notify, reserved, fields)
if job.moves then
  accounts().charge_left(attempt)
end
return {'settled', unpack(follow_ups)}
