-- Functions that every transition of one job uses. The loader puts this file before each script whose
-- KEYS begin with: KEYS[1] job, KEYS[2] events, KEYS[3] agenda. Times are ms, given by the caller.

-- The most events in a job's timeline. The settlement is always listed.
local MAX_EVENTS = 100
local TERMINAL = {succeeded = true, failed = true, cancelled = true}
-- Events that repeat or contradict the known state. They are counted.
local COUNTED = {duplicate = true, conflict = true, mismatch = true, superseded = true}

local key = {job = KEYS[1], events = KEYS[2], agenda = KEYS[3]}
local job_id = string.match(key.job, '[^:]+$')
-- The prefix of all keys of the shard.
local shard = string.match(key.agenda, '^(.*:)agenda$')

local function get(field)
  return redis.call('HGET', key.job, field)
end

local function set(...)
  redis.call('HSET', key.job, ...)
end

local function count(name, by)
  redis.call('HINCRBY', shard .. 'counts', name, by)
end

-- Change the status of the job. More fields to set follow as name, value, ...
local function become(from, to, ...)
  set('status', to, ...)
  if from ~= to then
    count(from, -1)
    count(to, 1)
  end
end

-- Record an attempt that may have reached its provider without a known task. It may be charged.
local function risk(now, attempt)
  redis.call('ZADD', shard .. 'unconfirmed', 'NX', now, job_id .. '.' .. attempt)
end

local function reschedule(time)
  redis.call('ZADD', key.agenda, time, job_id)
end

local function release()
  redis.call('HDEL', key.job, 'lease')
end

-- `detail` is a JSON object as text.
local function event(now, name, detail)
  if COUNTED[name] then
    count(name, 1)
  end
  if name ~= 'settled' and redis.call('LLEN', key.events) >= MAX_EVENTS then
    redis.call('HINCRBY', key.job, 'omitted', 1)
  else
    redis.call('RPUSH', key.events, now .. ' ' .. name .. ' ' .. detail)
  end
end

local function bound_to(attempt, task_id)
  set('task.' .. attempt, task_id)
  redis.call('ZREM', shard .. 'unconfirmed', job_id .. '.' .. attempt)
end

-- Bind a provider task to an attempt that was sent. Returns false if the attempt has another task.
local function bind(attempt, task_id)
  local bound = get('task.' .. attempt)
  if bound then
    return bound == task_id
  end
  if not get('sent.' .. attempt) then
    return false
  end
  bound_to(attempt, task_id)
  return true
end

-- Returns whether the caller holds the lease on this attempt, and the attempt has no task yet.
local function holds(lease, attempt)
  local status = get('status')
  return get('lease') == lease and get('attempt') == attempt
    and (status == 'submitting' or status == 'unconfirmed')
end

-- The follow-ups of an outcome. A job is in the sorted set of a follow-up while that is pending. Its
-- lease, its tries and when it is due are fields that begin with the name of the follow-up.
local FOLLOW_UPS = {'archive', 'notify'}

-- Returns the fields of a follow-up that is due now, as name, value, ...
local function pending(now, name)
  return name, 'pending', name .. '.since', now, name .. '.next', now
end

-- Keep the job for the retention time, unless a follow-up is pending.
local function keep(retention)
  for _, state in ipairs(redis.call('HMGET', key.job, unpack(FOLLOW_UPS))) do
    if state == 'pending' then
      return
    end
  end
  redis.call('PEXPIRE', key.job, retention)
  redis.call('PEXPIRE', key.events, retention)
end

-- Give the job its outcome. The job leaves the agenda, and its follow-ups are due. `expires` is when
-- the first image link expires. More fields to set follow as name, value, ... They are set in few
-- calls, because every callback runs this. Returns the names of the follow-ups.
local function settle(now, from, status, by, retention, expires, detail, ...)
  local follows, fields = {}, {'by', by, 'settled', now, 'updated', now, ...}
  if status == 'succeeded' then
    follows[1] = 'archive'
  end
  if get('notify') then
    follows[#follows + 1] = 'notify'
  end
  for _, name in ipairs(follows) do
    for _, value in ipairs({pending(now, name)}) do
      fields[#fields + 1] = value
    end
  end
  become(from, status, unpack(fields))
  for _, name in ipairs(follows) do
    redis.call('ZADD', shard .. name, now, job_id)
  end
  if status == 'succeeded' then
    redis.call('ZADD', shard .. 'expiring', expires, job_id)
  end
  release() -- after the first write, which a full Redis refuses, so that the transition stays atomic
  redis.call('ZREM', key.agenda, job_id)
  event(now, 'settled', detail)
  if #follows == 0 then
    keep(retention)
  end
  redis.call('PUBLISH', string.gsub(key.job, ':job:', ':settled:', 1), status)
  return follows
end
