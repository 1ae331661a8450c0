-- What the result of a submission shows of its provider. The loader puts this file after the prelude
-- and the admission.

-- The longest time between two raises of a found limit. It doubles with each raise that the provider
-- refused. ms.
local MAX_RAISE_AFTER_MS = 30000
-- The circuit breaker opens after this many failures in a row, over at least this time. ms.
local FAILURES_TO_OPEN, MIN_FAILING_MS = 5, 10000
-- How long it is open before a job probes the provider. It doubles with each failed probe. ms: from, to.
local OPEN_MS, MAX_OPEN_MS = 5000, 60000

-- The provider refused a submission for its load. The tasks that run are its limit, unless more ran a
-- short time ago: then it refused for another reason, such as a rate.
local function lower_found_limit(state, now)
  local PROOF_MS = 30000 -- as in the prelude
  local running = tonumber(redis.call('HGET', shard .. 'counts', 'running:' .. job.provider)) or 0
  local proved, proved_at = unpack(redis.call('HMGET', state.key, 'proved', 'proved_at'))
  if running < (tonumber(proved) or 0) and now - proved_at <= PROOF_MS then
    return
  end
  local found = math.max(1, math.min(state.found or running, running))
  local raise_after = state.raise_after or RAISE_AFTER_MS
  if redis.call('HDEL', state.key, 'tried') == 1 then
    raise_after = math.min(raise_after * 2, MAX_RAISE_AFTER_MS)
  end
  redis.call('HSET', state.key, 'found', found, 'raise', 1, 'raised_at', now,
    'raise_after', raise_after)
end

-- A submission failed in a way that another job's would, too.
local function provider_failed(state, now, reason)
  local failures = redis.call('HINCRBY', state.key, 'failures', 1)
  redis.call('HSETNX', state.key, 'failing_since', now)
  local since = tonumber(redis.call('HGET', state.key, 'failing_since'))
  if state.open_until and now < state.open_until then
    return
  end
  if state.open_until or failures >= FAILURES_TO_OPEN and now - since >= MIN_FAILING_MS then
    local openings = redis.call('HINCRBY', state.key, 'openings', 1)
    local open_ms = math.min(OPEN_MS * 2 ^ (openings - 1), MAX_OPEN_MS)
    redis.call('HSET', state.key, 'open_until', now + open_ms, 'reason', reason)
    redis.call('HDEL', state.key, 'probe_until')
  end
end

-- Learn from a result: the provider was `busy`, `failed`, `failed_again` (the same attempt), or
-- `answered`. `reason` is its error, JSON. An attempt that fails again shows nothing new, so that one
-- job does not stop the others, unless it was the probe.
local function learn(now, shows, reason)
  if shows == '' then
    return
  end
  local state = admission_state(shard, job.provider, '')
  if shows == 'failed_again' and not state.open_until then
    return
  elseif shows == 'failed' or shows == 'failed_again' then
    provider_failed(state, now, reason)
    return
  end
  provider_answered(now, job.provider)
  if shows == 'busy' then
    lower_found_limit(state, now)
  end
end
