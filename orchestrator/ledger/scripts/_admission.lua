-- Functions that decide whether a provider may get one more submission now. The loader puts this file
-- before the scripts that need them. docs/admission.md explains the rules.
-- `limits` holds `max` (attempts in flight), `interval` (ms between submissions) and `burst`
-- (submissions at once). `max` is nil and `interval` is 0 without a limit.

-- The shortest time between two raises of a found limit. ms.
local RAISE_AFTER_MS = 1000
local UNLIMITED = 1000000000
-- Returns the state of a provider: its keys, its limits, and its fields as numbers. `configured` has the
-- limits of providers: name max interval burst, ...
local function admission_state(root, provider, configured)
  local state, limits = root .. 'provider:' .. provider, {interval = 0, burst = 1}
  if configured ~= '' then
    for name, max, interval, burst in string.gmatch(configured, '(%S+) (%S+) (%S+) (%S+)') do
      if name == provider then
        limits = {max = tonumber(max), interval = tonumber(interval) or 0, burst = tonumber(burst) or 1}
      end
    end
  end
  local stored = redis.call('HMGET', state, 'paused', 'open_until', 'probe_until', 'tat', 'found',
    'raise', 'raised_at', 'raise_after', 'tried', 'waited_until')
  local found = tonumber(stored[5])
  return {key = state, flights = root .. 'in_flight:' .. provider, limits = limits,
    max = limits.max or found, paused = stored[1], open_until = tonumber(stored[2]),
    probe_until = tonumber(stored[3]), tat = tonumber(stored[4]), found = found,
    raise = tonumber(stored[6]), raised_at = tonumber(stored[7]), raise_after = tonumber(stored[8]),
    tried = stored[9], waited_until = tonumber(stored[10])}
end

-- Returns when the next submission is within the rate, ms.
local function next_send(state, now)
  local limits = state.limits
  return math.max(state.tat or 0, now) - (limits.burst - 1) * limits.interval
end

-- Returns true if the found limit may be raised to look for a higher one.
local function may_raise(state, now)
  return not state.limits.max and now >= state.raised_at + state.raise_after
end

-- Returns why submissions wait, and until when (ms, or '' if that is not known). Returns nothing if
-- one may be sent.
local function must_wait(state, now, is_new)
  if state.paused then
    return 'paused', ''
  elseif state.open_until and now < state.open_until then
    return 'circuit_open', state.open_until
  elseif state.open_until and now < (state.probe_until or 0) then
    return 'circuit_probing', state.probe_until
  elseif next_send(state, now) > now then
    return 'rate_limit', math.ceil(next_send(state, now))
  elseif is_new and state.max and redis.call('ZCARD', state.flights) >= state.max
    and not may_raise(state, now) then
    return 'in_flight_limit', ''
  end
end

-- Returns true if a job with a fallback does not wait: the provider gets no submission at all, and not
-- because it takes no more for now.
local function is_held(state, reason)
  if reason == 'circuit_open' or reason == 'circuit_probing' then
    local error = redis.call('HGET', state.key, 'reason')
    local code = error and cjson.decode(error).code
    return code ~= 'rate_limited' and code ~= 'task_limit'
  end
  return reason == 'paused'
end

-- Returns the number of new jobs and of repeated submissions that may start until `horizon` (ms).
local function free_places(state, now, horizon)
  local sends = UNLIMITED
  if state.limits.interval > 0 then
    sends = 1 + math.floor((horizon - next_send(state, now)) / state.limits.interval)
  end
  if state.open_until and now >= state.open_until then
    sends = 1
  end
  local reason = must_wait(state, now, false)
  if reason and reason ~= 'rate_limit' or sends <= 0 then
    return 0, 0
  end
  if not state.max then
    return sends, sends
  end
  local free = math.max(state.max - redis.call('ZCARD', state.flights), 0)
  if free == 0 and may_raise(state, now) then
    free = state.raise
  end
  return math.min(sends, free), sends
end

-- Returns since when a provider with a free place has had one, at the latest. ms.
local function free_since(state, now, is_new)
  local since = math.max(state.waited_until or 0, state.open_until or 0)
  if state.limits.interval > 0 and state.tat then
    since = math.max(since, state.tat - (state.limits.burst - 1) * state.limits.interval)
  end
  if is_new and state.found and not state.limits.max
    and redis.call('ZCARD', state.flights) >= state.found then
    since = math.max(since, state.raised_at + state.raise_after)
  end
  return math.min(since, now)
end

-- Record a submission of a job that starts now. `prober` is false if the job is not sent any more.
local function admit(state, now, flight, lease_end, prober)
  if not prober then
    return
  end
  if state.limits.interval > 0 then
    local tat = math.max(state.tat or 0, now) + state.limits.interval
    redis.call('HSET', state.key, 'tat', string.format('%.3f', tat))
  end
  if state.open_until then
    redis.call('HSET', state.key, 'probe_until', lease_end, 'prober', prober)
  end
  if flight then
    if state.found and not state.limits.max
      and redis.call('ZCARD', state.flights) >= state.found then
      local raise_after = math.max(RAISE_AFTER_MS, state.raise_after / 2)
      redis.call('HSET', state.key, 'found', state.found + state.raise, 'raised_at', now,
        'raise', math.min(state.raise * 2, math.max(1, math.floor(state.found / 2))),
        'raise_after', state.tried and raise_after or state.raise_after, 'tried', 1)
    end
    redis.call('ZADD', state.flights, now, flight)
  end
end
