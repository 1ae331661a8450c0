-- Functions for a new job and its owner: its fields, limits of its tenant, the index of its jobs, and its
-- batch. The loader puts this file between the prelude and `create`.

-- Each new job checks this number of the oldest entries of its tenant's index for expired jobs. So
-- the index shrinks faster than it grows.
local CHECKED = 2

-- The rate is a GCRA. `<tenant> rate` holds the time (ms) when the tenant may have a whole burst again.
local function next_rate(now, tenant, interval)
  local free_at = tonumber(redis.call('HGET', shard .. 'counts', tenant .. ' rate') or 0)
  return math.max(free_at, tonumber(now)) + interval
end

local function spend_rate(now, tenant, interval)
  local free_at = string.format('%.3f', next_rate(now, tenant, interval))
  redis.call('HSET', shard .. 'counts', tenant .. ' rate', free_at)
end

-- Returns the name of the limit that a tenant has reached, and the wait in ms (0: unknown).
local function reached_limit(now, tenant, max_open, interval, burst)
  if max_open then
    local open = tonumber(redis.call('HGET', shard .. 'counts', tenant .. ' open') or 0)
    if open >= max_open then
      return 'max_open', 0
    end
  end
  local wait = interval and next_rate(now, tenant, interval) - tonumber(now) - burst * interval or 0
  if wait > 0 then
    return 'requests_per_second', math.ceil(wait)
  end
end

local function join_batch(batch)
  if batch ~= '' then
    redis.call('HINCRBY', shard .. 'batch:' .. batch, 'queued', 1)
    redis.call('HINCRBY', shard .. 'open_batches', batch, 1)
  end
end

local function index_job(tenant)
  local index = shard .. 'jobs:' .. tenant
  redis.call('ZADD', shard .. 'jobs', 0, job_id)
  redis.call('ZADD', index, 0, job_id)
  local oldest = redis.call('ZRANGE', index, 0, CHECKED - 1)
  for number, id in ipairs(oldest) do
    oldest[number] = shard .. 'job:' .. id
  end
  if redis.call('EXISTS', unpack(oldest)) == #oldest then -- nearly always
    return
  end
  for _, job in ipairs(oldest) do
    if redis.call('EXISTS', job) == 0 then
      redis.call('ZREM', index, string.sub(job, -32))
    end
  end
end

-- Store the job: fields as name, value, ..., and more fields by their names, unless they are empty.
local function store(fields, more)
  for name, value in pairs(more) do
    if value ~= '' then
      fields[#fields + 1], fields[#fields + 2] = name, value
    end
  end
  set(unpack(fields))
end

-- Returns why the job is not submitted now ('' no reason), and until when (ms, '' unknown).
local function reason_to_wait(now, configured)
  local state = admission_state(shard, job.provider, configured)
  local reason, ends = must_wait(state, tonumber(now), true)
  return reason or '', tostring(ends or '')
end
