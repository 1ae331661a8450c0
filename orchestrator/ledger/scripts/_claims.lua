-- Functions of the claim. The loader puts this file after the prelude and the admission.

-- The longest time over which the jobs of a provider come back after a pause. ms.
local MAX_SPREAD_MS = 30000
-- Errors of jobs that waited until their deadline, by the reason. The operator's words on a pause are not
-- for tenants.
local WAITED = {
  paused = '{"code":"provider_unavailable","message":"an operator paused the provider"}',
  in_flight_limit = '{"code":"task_limit","message":"the limit of tasks in flight was reached"}',
  rate_limit = '{"code":"rate_limited","message":"the limit of submissions per second was reached"}',
}

-- The functions of the prelude work on another job of the shard from now on.
local function use_job(id)
  key.job, key.events = (string.gsub(key.job, job_id, id, 1)), (string.gsub(key.events, job_id, id, 1))
  job_id = id
end

-- Returns the first queued job of a tenant, if it is due and not past its deadline.
local function first_queued(now, turns, other)
  local id, due = unpack(redis.call('ZRANGE', shard .. 'flow:queued:' .. job.provider .. ':' .. other,
    0, 0, 'WITHSCORES'))
  if not id then
    redis.call('ZREM', turns, other)
  elseif tonumber(due) <= now then
    local status, deadline = unpack(redis.call('HMGET', string.gsub(key.job, job_id, id, 1),
      'status', 'deadline'))
    return status == 'queued' and now < tonumber(deadline) and id
  end
end

-- Give the turn to the tenant with the fewest turns at the provider. Among equals, the job of the
-- call goes first. `handed` tells a repeated call which job was taken.
local function take_turn(now, lease)
  local turns = shard .. 'turns:' .. job.provider
  if redis.call('ZCARD', turns) <= 1 then
    return
  end
  local own = tonumber(redis.call('ZSCORE', turns, job.tenant) or 0)
  local others = redis.call('ZRANGEBYSCORE', turns, '-inf', '(' .. own)
  for _, other in ipairs(others) do
    local id = first_queued(now, turns, other)
    if id then
      set('handed', lease .. ' ' .. id)
      use_job(id)
      read_job()
      break
    end
  end
  redis.call('ZINCRBY', turns, 1, job.tenant)
end

-- Give the lease on the job to the caller.
local function hold(status, lease, now, lease_end)
  set('lease', lease, 'updated', now)
  record_change()
  reschedule(status, lease_end)
end

local function start_attempt(state, lease, now, lease_end)
  local attempt = tostring(job.attempt + 1)
  admit(state, now, job_id .. '.' .. attempt, lease_end, job_id)
  change_status('submitting', 'attempt', attempt, 'sent.' .. attempt, now, 'lease', lease,
    'updated', now)
  reschedule('submitting', lease_end)
  add_event(now, 'submitting', '{"attempt":' .. attempt .. '}')
end

-- A submitting job whose lease ran out becomes unconfirmed. Returns the new status.
local function lost_lease(now)
  if job.status == 'submitting' then
    change_status('unconfirmed', 'tries', 0)
    mark_unconfirmed(now, job.attempt)
    add_event(now, 'unconfirmed', '{"attempt":' .. job.attempt .. ',"reason":"lease ran out"}')
  end
  return 'unconfirmed'
end

-- Returns true if a job is tried although its circuit breaker is open: half of its time is over, and its
-- deadline comes before the circuit breaker lets jobs probe. Otherwise it would fail without a try.
local function is_last_chance(reason, ends, now, created, deadline)
  if not reason or now < (created + deadline) / 2 then
    return false
  end
  redis.call('ZADD', shard .. 'deadlines', 'XX', deadline, job_id)
  return reason == 'circuit_open' and job.status == 'queued' and tonumber(ends) >= deadline
end

-- Returns until when a job waits. Jobs that wait for the rate get one submission time each, so that
-- they do not all come back for the same one. The end of an attempt lets another job start, if jobs
-- wait for a place.
local function note_wait(state, reason, ends)
  if reason == 'in_flight_limit' then
    redis.call('HSET', state.key, 'full', 1)
  elseif reason == 'rate_limit' then
    local last = tonumber(redis.call('HGET', state.key, 'slot') or 0)
    ends = math.max(ends, math.ceil(last + state.limits.interval))
    redis.call('HSET', state.key, 'slot', ends)
  end
  return ends
end

-- A queued job that waits at its deadline keeps the reason.
local function keep_reason(state, reason)
  local error = WAITED[reason] or reason and redis.call('HGET', state.key, 'reason')
  if error then
    set('refusal', error)
  end
end

-- Postpone the poll while the provider is paused for polls. Returns true if it is.
local function polls_are_paused(now, deadline, random)
  local state = provider_state()
  local ends, reason = unpack(redis.call('HMGET', state, 'polls_paused_until', 'polls_reason'))
  local left = (tonumber(ends) or 0) - now
  if left <= 0 then
    return false
  end
  if get('refusal') ~= reason then
    set('refusal', reason)
    add_event(now, 'paused', reason)
  end
  reschedule('running', math.min(ends + math.floor(math.min(left / 2, MAX_SPREAD_MS) * random), deadline))
  return true
end
