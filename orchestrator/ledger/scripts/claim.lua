-- Purpose: take the lease on a due job, for one step.
--   A queued job becomes submitting and gets a new attempt, unless its deadline has passed. If another
--   tenant had fewer turns at the provider, its first job is taken instead.
--   A job waits while its provider must not get a submission, or moves to a fallback.
--   A submitting job with an expired lease becomes unconfirmed, because its worker may have sent the
--   request.
-- KEYS: 1 job, 2 events, 3 agenda
-- ARGV: 1 now ms, 2 lease token, 3 end of the lease ms, 4 step, 5 random number from 0 to 1,
--       6 providers with limits: name max interval burst, ... ('-' no limit)
-- Returns: claimed, job id, the job's fields | not_due | missing | moved, provider
--   | waiting, reason, until ms ('' unknown)
-- A repeated call with the same token returns claimed again.
local now, lease, lease_end, step, random = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local configured = ARGV[6]
local STEPS = {queued = 'submit', submitting = 'submit', unconfirmed = 'submit', running = 'poll'}

local status, created, handed = read_job('created', 'handed')
if not status then
  redis.call('ZREM', key.agenda, job_id)
  return {'missing'}
end
local other = string.match(handed or '', '^(%S+) ') == lease and string.match(handed, '%S+$')
if other == 'moved' then
  return {'moved', job.provider}
elseif other then
  use_job(other)
elseif job.lease ~= lease then
  local due = redis.call('ZSCORE', key.agenda, job_id)
  if not due or tonumber(due) > now or STEPS[status] ~= step then
    return {'not_due'}
  end
  local deadline = tonumber(job.deadline)
  local is_late = now >= deadline
  if step == 'poll' then
    if not is_late and polls_are_paused(now, deadline, tonumber(random)) then
      return {'not_due'}
    end
    hold(status, lease, now, lease_end)
  else
    local state = admission_state(shard, job.provider, configured)
    local reason, ends = must_wait(state, now, status == 'queued')
    if reason and status == 'queued' and job.fallback and not is_late
      and leave(state, reason, ends, lease, now, (created + deadline) / 2, configured) then
      return {'moved', job.provider}
    end
    if is_last_chance(reason, ends, now, tonumber(created), deadline) then
      reason = nil
    end
    if reason and not is_late then
      return {'waiting', reason, tostring(note_wait(state, reason, ends))}
    elseif status ~= 'queued' then
      admit(state, now, nil, lease_end, not is_late and job_id)
      hold(lost_lease(now), lease, now, lease_end)
    elseif is_late then
      keep_reason(state, reason)
      hold(status, lease, now, lease_end)
    else
      take_turn(now, lease)
      start_attempt(state, lease, now, lease_end)
    end
  end
end
return {'claimed', job_id, redis.call('HGETALL', key.job)}
