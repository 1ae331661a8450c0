-- Purpose: take the lease on a due job, for a submission.
--   A queued job becomes submitting and gets a new attempt, unless its deadline has passed. If another
--   tenant had fewer turns at the provider, its first job is taken instead.
--   A job waits while its provider must not get a submission, or moves to a fallback.
--   A submitting job with an expired lease becomes unconfirmed, because its worker may have sent the
--   request.
-- KEYS: 1 job, 2 events, 3 agenda
-- ARGV: 1 now ms, 2 lease token, 3 end of the lease ms,
--       4 providers with limits: name max interval burst, ... ('-' no limit)
-- Returns: claimed, job id, the job's fields | not_due | missing | moved, provider
--   | waiting, reason, until ms ('' unknown)
-- A repeated call with the same token returns claimed again.
local time, lease, lease_end, configured = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local now = tonumber(time)

local fields = read_fields()
local status, handed = job.status, job.handed
if not status then
  redis.call('ZREM', agenda, job_id)
  return {'missing'}
end
local taken = handed and string.match(handed, '^(%S+) ') == lease and string.match(handed, '%S+$')
if taken == 'moved' then
  return {'moved', job.provider}
elseif taken then
  others().use_job(taken)
elseif job.lease ~= lease then
  local due = redis.call('ZSCORE', agenda, job_id)
  if not due or tonumber(due) > now or not FLOWS[status] or status == 'running' then
    return {'not_due'}
  end
  local is_late = now >= tonumber(job.deadline)
  local state = admission_state(shard, job.provider, configured)
  local reason, ends = must_wait(state, now, status == 'queued')
  if reason and not is_late then
    local result
    result, ends = others().wait(state, reason, ends, lease, now, configured)
    if result == 'moved' then
      return {'moved', job.provider}
    elseif result == 'waiting' then
      return {'waiting', reason, ends}
    end
  end
  if status == 'queued' and not is_late then
    fields = start_attempt(state, fields, lease, time, lease_end)
    return {'claimed', job_id, fields} -- another job may have the turn
  end
  local other = others()
  if status == 'queued' then
    other.keep_reason(state, reason)
  else
    admit(state, now, nil, lease_end, not is_late and job_id)
    status = other.lost_lease(now)
  end
  other.hold(status, lease, now, lease_end)
end
return {'claimed', job_id, redis.call('HGETALL', job_key)}
