-- Functions of the claim. The loader puts this file after the prelude, the admission and the fallbacks.

-- Read the whole job. Returns its fields: name, value, ...
local function read_fields()
  local fields = redis.call('HGETALL', job_key)
  job = {}
  for i = 1, #fields, 2 do
    job[fields[i]] = fields[i + 1]
  end
  check_format(job.format)
  if FLOWS[job.status] and not job.tenant then
    adopt(shard, job_id)
    job.tenant = 'default'
  end
  return fields
end

-- Functions for claims other than the first attempt of a job without competition.
local function others()
  -- The functions of the prelude work on another job of the shard from now on.
  local function use_job(id)
    job_id, job_key, events_key = id, shard .. 'job:' .. id, shard .. 'events:' .. id
  end

  -- Give the turn to the tenant with the fewest turns at the provider. Among equals, the job of the
  -- call goes first. `handed` tells a repeated call which job was taken. Returns its fields, if another job has
  -- the turn.
  local function hand_over(now, lease, turns)
    -- Returns the first queued job of a tenant, if it is due and not past its deadline.
    local function first_queued(other)
      local flow = shard .. 'flow:queued:' .. job.provider .. ':' .. other
      local id, due = unpack(redis.call('ZRANGE', flow, 0, 0, 'WITHSCORES'))
      if not id then
        redis.call('ZREM', turns, other)
      elseif tonumber(due) <= now then
        local status, _, _, deadline, format = read_open(shard, id)
        return status == 'queued' and now < deadline and not is_newer(format) and id
      end
    end

    local own, taken = tonumber(redis.call('ZSCORE', turns, job.tenant) or 0), nil
    local others = redis.call('ZRANGEBYSCORE', turns, '-inf', '(' .. own)
    for _, other in ipairs(others) do
      local id = first_queued(other)
      if id then
        set('handed', lease .. ' ' .. id)
        use_job(id)
        taken = read_fields()
        break
      end
    end
    redis.call('ZINCRBY', turns, 1, job.tenant)
    return taken
  end

  -- Give the lease on the job to the caller.
  local function hold(status, lease, now, lease_end)
    set('lease', lease, 'updated', now)
    record_change()
    reschedule(status, lease_end)
  end

  -- A submitting job whose lease ran out becomes unconfirmed: it may have reached its provider, and may be
  -- charged. Returns the new status.
  local function lost_lease(now)
    if job.status == 'submitting' then
      change_status('unconfirmed', 'tries', 0)
      redis.call('ZADD', shard .. 'unconfirmed', 'NX', now, job_id .. '.' .. job.attempt)
      add_event(now, 'unconfirmed', '{"attempt":' .. job.attempt .. ',"reason":"lease ran out"}')
    end
    return 'unconfirmed'
  end

  -- The provider must not get the job now. Returns
  --   moved: the job is at a fallback.
  --   tried: half of its time is over, and its deadline comes before the circuit breaker lets jobs probe.
  --     Otherwise it would fail without a try.
  --   waiting, until ms. Jobs that wait for the rate get one submission time each, so that they do not all
  --     come back for the same one. The end of an attempt lets another job start, if jobs wait for a place.
  local function wait(state, reason, ends, lease, now, configured)
    local deadline, is_queued = tonumber(job.deadline), job.status == 'queued'
    local half_time = (job.created + deadline) / 2
    if is_queued and job.fallback
      and fallbacks().leave(state, reason, ends, lease, now, half_time, configured) then
      return 'moved'
    end
    if now >= half_time then
      redis.call('ZADD', shard .. 'deadlines', 'XX', deadline, job_id)
      if reason == 'circuit_open' and is_queued and tonumber(ends) >= deadline then
        return 'tried'
      end
    end
    if reason == 'in_flight_limit' then
      redis.call('HSET', state.key, 'full', 1)
    elseif reason == 'rate_limit' then
      local last = tonumber(redis.call('HGET', state.key, 'slot') or 0)
      ends = math.max(ends, math.ceil(last + state.limits.interval))
      redis.call('HSET', state.key, 'slot', ends)
    end
    return 'waiting', tostring(ends)
  end

  -- A queued job that waits at its deadline keeps the reason. The operator's words on a pause are not for
  -- tenants.
  local function keep_reason(state, reason)
    local errors = {
      paused = '{"code":"provider_unavailable","message":"an operator paused the provider"}',
      in_flight_limit = '{"code":"task_limit","message":"the limit of tasks in flight was reached"}',
      rate_limit = '{"code":"rate_limited","message":"the limit of submissions per second was reached"}',
    }
    local error = errors[reason] or reason and redis.call('HGET', state.key, 'reason')
    if error then
      set('refusal', error)
    end
  end

  return {use_job = use_job, hand_over = hand_over, hold = hold, lost_lease = lost_lease, wait = wait,
    keep_reason = keep_reason}
end

-- Start an attempt of the job, or of a job of the tenant that has the turn. `fields` are those of the job.
-- Returns the fields of the job with an attempt: name, value, ... The new values come last.
local function start_attempt(state, fields, lease, now, lease_end)
  local turns = shard .. 'turns:' .. job.provider
  if redis.call('ZCARD', turns) > 1 then
    fields = others().hand_over(tonumber(now), lease, turns) or fields
  end
  local attempt, n = tostring(job.attempt + 1), #fields
  admit(state, tonumber(now), job_id .. '.' .. attempt, lease_end, job_id)
  fields[n + 1], fields[n + 2], fields[n + 3], fields[n + 4], fields[n + 5], fields[n + 6],
    fields[n + 7], fields[n + 8], fields[n + 9], fields[n + 10] = 'attempt', attempt,
    'sent.' .. attempt, now, 'lease', lease, 'updated', now, 'status', 'submitting'
  change_status('submitting', unpack(fields, n + 1, n + 8))
  reschedule('submitting', lease_end)
  add_event(now, 'submitting', '{"attempt":' .. attempt .. '}')
  return fields
end
