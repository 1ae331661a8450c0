-- Purpose: take the lease on a due job, for a poll. The poll is postponed while the provider is paused for
--   polls.
-- KEYS: 1 job, 2 events, 3 agenda
-- ARGV: 1 now ms, 2 lease token, 3 end of the lease ms, 4 random number from 0 to 1
-- Returns: claimed, job id, the job's fields | not_due | missing
-- A repeated call with the same token returns claimed again. Its lease ends when it says.
local time, lease, lease_end, random = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local now = tonumber(time)
-- The longest time over which the jobs of a provider come back after a pause. ms.
local MAX_SPREAD_MS = 30000

local status = read_job()
if not status then
  redis.call('ZREM', agenda, job_id)
  return {'missing'}
end
if job.lease ~= lease then
  local due = redis.call('ZSCORE', agenda, job_id)
  if not due or tonumber(due) > now or status ~= 'running' then
    return {'not_due'}
  end
  local state, deadline = shard .. 'provider:' .. job.provider, tonumber(job.deadline)
  local ends, reason = unpack(redis.call('HMGET', state, 'polls_paused_until', 'polls_reason'))
  local left = (tonumber(ends) or 0) - now
  if left > 0 and now < deadline then
    if get('refusal') ~= reason then
      set('refusal', reason)
      add_event(now, 'paused', reason)
    end
    local spread = math.floor(math.min(left / 2, MAX_SPREAD_MS) * random)
    reschedule('running', math.min(ends + spread, deadline))
    return {'not_due'}
  end
  set('lease', lease, 'updated', time)
  record_change()
end
if status == 'running' then
  reschedule('running', lease_end)
end
return {'claimed', job_id, redis.call('HGETALL', job_key)}
