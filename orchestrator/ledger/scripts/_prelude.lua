-- Functions for the transitions of one job. The loader puts those that a script uses before it. The
-- KEYS of these scripts start with: KEYS[1] job, KEYS[2] events, KEYS[3] agenda.
-- All times are in ms. The caller gives them.
-- Redis runs these lines for each call of a script. So a script reads the job once, sets its fields once,
-- and leaves out what changes nothing. Each function costs time even if it is not called, and so does each
-- table. So what few calls need is in one function that makes the others.

local job_key, events_key, agenda = KEYS[1], KEYS[2], KEYS[3]
-- Every job id has 32 characters.
local job_id = string.sub(job_key, -32)
-- The prefix of all keys of the shard. `job:` follows it.
local shard = string.sub(job_key, 1, -37)

local function get(field)
  return redis.call('HGET', job_key, field)
end

-- The job as it was when the script began, except for its provider, its fallbacks and its moves.
-- `provider` is where it is now, `fallback` holds the fallbacks that are left, and `moves` the moves that
-- were made: JSON lists, or false.
local job

-- The newest format of a job that these scripts know. It is that of refusals.py, too.
local FORMAT = 2

local function is_newer(format)
  return format and tonumber(format) > FORMAT
end

-- Refuse a job that a newer version has written. Nothing has changed yet.
local function check_format(format)
  if is_newer(format) then
    error({err = 'NEWERFORMAT ' .. format})
  end
end

-- Read the job, and more of its fields, in one call. Returns its status and the values of these fields.
local function read_job(...)
  local values = redis.call('HMGET', job_key, 'status', 'provider', 'tenant', 'deadline', 'attempt',
    'lease', 'fallback', 'moves', 'batch', 'format', 'created', ...)
  check_format(values[10])
  job = {status = values[1], provider = values[2] or '', tenant = values[3] or 'default',
    deadline = values[4], attempt = values[5], lease = values[6], fallback = values[7],
    moves = values[8], batch = values[9], format = values[10], created = values[11]}
  if FLOWS[job.status] and not values[3] then
    adopt(shard, job_id)
  end
  return job.status, unpack(values, 12)
end

local function set(...)
  redis.call('HSET', job_key, ...)
end

-- The job whose change this script has recorded.
local recorded

-- Tell the recorder of the history that the job changed, once for each script and job. Call it after
-- or before the change: the recorder reads the job when the script has ended. The change has the newest
-- format, so the job of an older version gets it, too.
local function record_change()
  if recorded ~= job_id then
    recorded = job_id
    redis.call('XADD', shard .. 'changes', '*', 'job', job_id)
    if tonumber(job.format) ~= FORMAT then
      set('format', FORMAT)
    end
  end
end

local function set_unless_empty(name, value)
  if value ~= '' then
    set(name, value)
  end
end

local function count(name)
  redis.call('HINCRBY', shard .. 'counts', name, 1)
end

-- Count a change of the status. Two commands are cheaper than one for each number.
-- Returns the number of tasks that run at the provider now, if it has changed.
local function count_change(from, to)
  local counts, running = shard .. 'counts', 'running:' .. job.provider
  local more = to == 'running' and 1 or from == 'running' and -1
  if not FLOWS[to] then
    local open, ended = job.tenant .. ' open', job.tenant .. ' ' .. to
    local known = redis.call('HMGET', counts, from, to, open, ended, running)
    redis.call('HSET', counts, from, (known[1] or 0) - 1, to, (known[2] or 0) + 1,
      open, (known[3] or 0) - 1, ended, (known[4] or 0) + 1, running, (known[5] or 0) + (more or 0))
  elseif more then
    local known = redis.call('HMGET', counts, from, to, running)
    local number = (known[3] or 0) + more
    redis.call('HSET', counts, from, (known[1] or 0) - 1, to, (known[2] or 0) + 1, running, number)
    return number
  else
    local known = redis.call('HMGET', counts, from, to)
    redis.call('HSET', counts, from, (known[1] or 0) - 1, to, (known[2] or 0) + 1)
  end
end

-- The batch whose last open job of the shard this script has settled.
local ended_batch

-- Count a change of the status in the batch of the job.
local function count_in_batch(from, to)
  local counts, open = shard .. 'batch:' .. job.batch, shard .. 'open_batches'
  local known = redis.call('HMGET', counts, from, to)
  redis.call('HSET', counts, from, (known[1] or 0) - 1, to, (known[2] or 0) + 1)
  if not FLOWS[to] and redis.call('HINCRBY', open, job.batch, -1) == 0 then
    redis.call('HDEL', open, job.batch)
    ended_batch = job.batch
  end
end

-- Returns the provider of an attempt. It may have been left since.
local function provider_of(attempt)
  return job.moves and get('provider.' .. attempt) or job.provider
end

-- Returns the name of the flow of the job with this status.
local function flow_of(status)
  return FLOWS[status] .. ':' .. job.provider .. ':' .. job.tenant
end

-- Change the status of the job. Further arguments are fields to set: name, value, ... A status without a
-- flow is terminal.
-- Returns the number of tasks that run at the provider now, if it has changed.
local function change_status(to, ...)
  local from = job.status
  set('status', to, ...)
  if from == to then
    return
  end
  if FLOWS[from] ~= FLOWS[to] then -- reschedule() has it enter the other flow
    redis.call('ZREM', shard .. 'flow:' .. flow_of(from), job_id)
    if from == 'queued' and job.fallback then
      redis.call('ZREM', shard .. 'movable:' .. job.provider, job_id)
    end
    if to == 'queued' then
      redis.call('ZADD', shard .. 'deadlines', job.deadline, job_id)
    elseif from ~= 'running' and to ~= 'submitting' then
      redis.call('ZREM', shard .. 'deadlines', job_id)
    end
    if from == 'queued' and to == 'running' then -- it was refused, and accepted nevertheless
      redis.call('ZADD', shard .. 'in_flight:' .. job.provider, get('sent.' .. job.attempt),
        job_id .. '.' .. job.attempt)
    end
  elseif to == 'unconfirmed' then
    redis.call('ZADD', shard .. 'deadlines', job.deadline, job_id)
  end
  if job.batch then
    count_in_batch(from, to)
  end
  return count_change(from, to)
end

-- Make the job due at a time. It enters the flow of its status. A tenant whose first job is queued
-- starts with as few turns as the tenant with the fewest.
local function reschedule(status, time)
  local flow = flow_of(status)
  redis.call('ZADD', agenda, time, job_id)
  redis.call('ZADD', shard .. 'flow:' .. flow, time, job_id)
  redis.call('ZADD', shard .. 'flows', 'LT', time, flow)
  if status == 'queued' then
    local turns = shard .. 'turns:' .. job.provider
    local first = redis.call('ZRANGE', turns, 0, 0, 'WITHSCORES')
    redis.call('ZADD', turns, 'NX', first[2] or 0, job.tenant)
    if job.fallback then
      local created, deadline = unpack(redis.call('HMGET', job_key, 'created', 'deadline'))
      redis.call('ZADD', shard .. 'movable:' .. job.provider, math.floor((created + deadline) / 2),
        job_id)
    end
  end
end

-- A task runs now. The most running tasks at a time are places that the provider has.
local function prove_places(now, running)
  local PROOF_MS = 30000 -- how long they prove it
  local state = shard .. 'provider:' .. job.provider
  local proved, proved_at = unpack(redis.call('HMGET', state, 'proved', 'proved_at'))
  if running >= tonumber(proved or 0) or now - proved_at > PROOF_MS then
    redis.call('HSET', state, 'proved', running, 'proved_at', now)
  end
end

-- The provider answered a submission. A circuit breaker that probes closes.
local function provider_answered(now, name)
  local state = shard .. 'provider:' .. name
  local failures, open_until = unpack(redis.call('HMGET', state, 'failures', 'open_until'))
  if failures or open_until and tonumber(now) >= tonumber(open_until) then
    if open_until then
      redis.call('HSET', state, 'waited_until', now)
    end
    redis.call('HDEL', state, 'failures', 'failing_since', 'open_until', 'probe_until', 'prober',
      'openings', 'reason')
  end
end

-- Further arguments are fields that the job does not need any more.
local function release_lease(...)
  if job.lease or ... then
    redis.call('HDEL', job_key, 'lease', ...)
  end
end

-- `detail` is a JSON object as text. The time of the event counts from the creation of the job.
local function add_event(now, name, detail)
  local MAX_EVENTS = 100 -- of a timeline; the event `settled` is added even when it is full
  record_change()
  local line = string.format('%+d %s %s', now - job.created, name, detail)
  local length = redis.call('RPUSH', events_key, line)
  if length > MAX_EVENTS and name ~= 'settled' then
    redis.call('RPOP', events_key)
    redis.call('HINCRBY', job_key, 'omitted', 1)
  end
end

-- Record and count an event that repeats or contradicts the known state.
local function count_event(now, name, detail)
  count(name)
  add_event(now, name, detail)
end

-- The key that names the job of a provider task.
local function task_owner(attempt, task_id)
  return shard .. 'task:' .. provider_of(attempt) .. ':' .. task_id
end

-- Bind a provider task to an attempt. The caller sets the field of the task.
-- No task is bound to two jobs of a shard: an answer for another job's task is a mistake of the provider
-- or of the network. task_owners.py holds this over all shards.
-- `bound` is the task of the attempt, and `sent` is set if it was sent.
-- Returns false if the attempt was not sent, or has another task, or another job has the task.
local function bind_task(attempt, task_id, bound, sent)
  if bound or not sent then
    return bound == task_id
  end
  local TASK_OWNER_MS = 30 * 86400000 -- how long the ledger knows which job has a provider task
  local owner = task_owner(attempt, task_id)
  local known = redis.call('GET', owner)
  if known and known ~= job_id then
    return false
  end
  redis.call('SET', owner, job_id, 'PX', TASK_OWNER_MS)
  record_change()
  if job.status ~= 'submitting' or job.attempt ~= attempt then -- a first submission is not listed
    redis.call('ZREM', shard .. 'unconfirmed', job_id .. '.' .. attempt)
  end
  return true
end

-- Returns true if the caller holds the lease on this attempt, and the attempt has no task yet.
local function holds_lease(lease, attempt)
  return job.lease == lease and job.attempt == attempt
    and (job.status == 'submitting' or job.status == 'unconfirmed')
end

-- Have a poll decide instead of a callback, if the provider reported a success whose result is still looked
-- for. The job is due now. Returns true if it is.
local function poll_instead(now, detail)
  local pending = get('pending_failure')
  if pending and cjson.decode(pending).kind ~= 'not_found' then
    add_event(now, 'callback', detail)
    set('updated', now)
    release_lease()
    reschedule('running', now)
    return true
  end
end

-- Functions for the jobs of tenants with a daily budget, and for jobs that move to another provider. Few jobs
-- need them.
local function accounts()
  -- A day, and how long its costs are kept. Its jobs end before that.
  local DAY_MS, SPEND_MS = 86400000, 10 * 86400000

  -- Count a cost against the budget of a tenant, on the day when the job was created.
  local function spend(created, name, unit, amount)
    local spent = shard .. 'spend:' .. job.tenant .. ':' .. math.floor(tonumber(created) / DAY_MS)
    redis.call('HINCRBYFLOAT', spent, name .. ' ' .. unit, string.format('%.9f', amount))
    redis.call('PEXPIRE', spent, SPEND_MS)
  end

  -- Returns true if a cost does not fit into a daily budget any more.
  local function over_budget(now, tenant, provider, cost, unit, budget)
    local day = math.floor(tonumber(now) / DAY_MS)
    local spent = redis.call('HGET', shard .. 'spend:' .. tenant .. ':' .. day, provider .. ' ' .. unit)
    return tonumber(spent or 0) + cost > budget + 1e-9
  end

  -- Move a queued job to another provider. The budgets follow, and its attempts keep their provider.
  -- `reserve` is the cost to reserve there, or false. `reason` is a word.
  local function change_provider(now, to, reserve, reason)
    local from = job.provider
    redis.call('ZREM', shard .. 'flow:' .. flow_of('queued'), job_id)
    redis.call('ZREM', shard .. 'movable:' .. from, job_id)
    local attempts, created, reserved = unpack(redis.call('HMGET', job_key,
      'attempt', 'created', 'reserved'))
    for attempt = 1, tonumber(attempts) do
      redis.call('HSETNX', job_key, 'provider.' .. attempt, from)
    end
    if reserved then
      local amount, unit = string.match(reserved, '^(%S+) (.+)$')
      spend(created, from, unit, -amount)
      set('reserved:' .. from, reserved)
      redis.call('HDEL', job_key, 'reserved')
    end
    if reserve then
      local amount, unit = string.match(reserve, '^(%S+) (.+)$')
      spend(created, to, unit, tonumber(amount))
      set('reserved', reserve)
    end
    local detail = '"from":"' .. from .. '","to":"' .. to .. '","reason":"' .. reason .. '"}'
    job.moves = (job.moves and string.sub(job.moves, 1, -2) .. ',' or '[') .. '{"at":' .. now .. ','
      .. detail .. ']'
    set('provider', to, 'moves', job.moves, 'tries', 0, 'updated', now)
    job.provider = to
    add_event(now, 'moved', '{' .. detail)
  end

  -- An attempt of a job that has moved runs, although its provider refused it. If the job is queued, it goes
  -- back there.
  local function return_to(now, attempt)
    local to = job.status == 'queued' and provider_of(attempt)
    if to and to ~= job.provider then
      change_provider(now, to, get('reserved:' .. to), 'accepted')
    end
  end

  -- Errors of ours: the provider did not report that the task failed.
  local NOT_REPORTED = {deadline_exceeded = true, not_found = true, unknown = true}

  -- Returns what a settled job may have cost at its provider. Each unconfirmed attempt counts with the
  -- reserved cost, and so does an attempt in flight if an attempt at another provider made the outcome.
  local function possible_cost(status, reserved, unit)
    if job.moves and provider_of(get('winner') or '') ~= job.provider then
      return reserved
    end
    local cost, error, attempts = unpack(redis.call('HMGET', job_key, 'cost', 'error', 'attempt'))
    local total, accepted = 0, false
    for attempt = 1, tonumber(attempts) do
      if redis.call('ZSCORE', shard .. 'unconfirmed', job_id .. '.' .. attempt) then
        total = total + reserved
      end
      accepted = accepted or get('task.' .. attempt)
    end
    local known = cost and cjson.decode(cost)
    if known and known.unit == unit and (status == 'succeeded' or known.source ~= 'computed') then
      return total + known.amount
    end
    local reported = error and not NOT_REPORTED[cjson.decode(error).code] and not get('pending_failure')
    if status == 'succeeded' or accepted and not reported then
      return total + reserved
    end
    return total
  end

  -- Count a cost of the job at its provider, or at one that it left, in the place of what was counted
  -- before, if its tenant has a budget there.
  local function charge(name, cost_of)
    local left = name ~= job.provider and ':' .. name or ''
    local reserved, charged, created = unpack(redis.call('HMGET', job_key,
      'reserved' .. left, 'charged' .. left, 'created'))
    if reserved then
      local amount, unit = string.match(reserved, '^(%S+) (.+)$')
      local before = tonumber(charged or left == '' and amount or 0)
      local now = cost_of(tonumber(amount), unit, before)
      set('charged' .. left, string.format('%.9f', now))
      spend(created, name, unit, now - before)
    end
  end

  return {
    spend = spend, over_budget = over_budget, change_provider = change_provider, return_to = return_to,
    -- The job has its outcome.
    charge_outcome = function(status)
      charge(job.provider, function(amount, unit)
        return possible_cost(status, amount, unit)
      end)
    end,
    -- An attempt at a provider that the job left made the outcome. It costs what was reserved there, or
    -- what the provider reported.
    charge_left = function(attempt)
      local name = provider_of(attempt)
      if name ~= job.provider then
        charge(name, function(reserved, unit)
          local cost = get('cost')
          local known = cost and cjson.decode(cost)
          return known and known.unit == unit and known.amount or reserved
        end)
      end
    end,
    -- A result came after the outcome.
    charge_late = function(attempt)
      charge(provider_of(attempt), function(reserved, _, before)
        return math.max(reserved, before)
      end)
    end,
  }
end

-- Make a pending follow-up due at a time. The job is in the flow of its tenant until the follow-up ends.
local function follow(name, time)
  redis.call('ZADD', shard .. 'flow:' .. name .. ':' .. job.tenant, time, job_id)
  redis.call('ZADD', shard .. 'flows:' .. name, 'LT', time, job.tenant)
end

-- Returns the fields of a follow-up that is due now: name, value, ... The job has fields for its lease, its
-- tries and its due time. Their names begin with its name.
local function pending_fields(now, name)
  return name, 'pending', name .. '.since', now, name .. '.next', now
end

-- Start the retention time of the job, unless a follow-up is pending.
local function start_retention(retention)
  for _, state in ipairs(redis.call('HMGET', job_key, 'archive', 'notify', 'confirm')) do
    if state == 'pending' then
      return
    end
  end
  redis.call('PEXPIRE', job_key, retention)
  redis.call('PEXPIRE', events_key, retention)
end

-- Returns a queued job of the provider, if jobs wait because too many attempts are in flight.
local function next_waiting(now)
  local state = shard .. 'provider:' .. job.provider
  local full, prober = unpack(redis.call('HMGET', state, 'full', 'prober'))
  if prober == job_id then -- another job may probe
    redis.call('HDEL', state, 'probe_until', 'prober')
  end
  if not full then
    return nil
  end
  local first = redis.call('ZRANGE', shard .. 'turns:' .. job.provider, 0, 0)[1]
  local flow = shard .. 'flow:queued:' .. job.provider .. ':' .. (first or '')
  local id, due = unpack(redis.call('ZRANGE', flow, 0, 0, 'WITHSCORES'))
  if id and tonumber(due) <= tonumber(now) then
    redis.call('HSET', state, 'waited_until', now)
    return id
  end
  redis.call('HDEL', state, 'full')
end

-- Give the job its outcome. The job leaves the agenda, and its follow-ups are due now: since `settled`.
-- `expires` is the time when the first image link expires; '': images are not archived. `notify` and `reserved` are fields of the job.
-- `fields` are more fields to set: name, value, ... One call sets them all, because every callback runs
-- this function.
-- Returns the names of the follow-ups, the job that may start at the provider now, if one waits, and the
-- batch that has no other open job in the shard.
local function settle(now, status, by, retention, expires, notify, reserved, fields)
  local follow_ups = {}
  local archived = status == 'succeeded' and expires ~= ''
  if archived then
    follow_ups[1] = 'archive'
  elseif status == 'succeeded' then
    fields[#fields + 1], fields[#fields + 2] = 'archive', 'off'
  end
  if notify then
    follow_ups[#follow_ups + 1] = 'notify'
  end
  for _, name in ipairs(follow_ups) do
    local n = #fields
    fields[n + 1], fields[n + 2], fields[n + 3], fields[n + 4] = name, 'pending', name .. '.next', now
  end
  change_status(status, 'by', by, 'settled', now, 'updated', now, unpack(fields))
  if reserved then
    accounts().charge_outcome(status)
  end
  for _, name in ipairs(follow_ups) do
    follow(name, now)
  end
  if archived then
    redis.call('ZADD', shard .. 'expiring:' .. job.tenant, expires, job_id)
  end
  -- A full Redis refuses HSET and ZADD, but accepts HDEL. HDEL comes after them, so a refused script
  -- has changed nothing.
  release_lease('seen_running')
  redis.call('ZREM', agenda, job_id)
  for attempt = 1, tonumber(job.attempt) do -- none is in flight any more
    redis.call('ZREM', shard .. 'in_flight:' .. job.provider, job_id .. '.' .. attempt)
  end
  if by == 'submit' then
    provider_answered(now, job.provider)
  end
  add_event(now, 'settled', '{}') -- the fields tell the rest
  if #follow_ups == 0 then
    start_retention(retention)
  end
  follow_ups[#follow_ups + 1] = next_waiting(now)
  follow_ups[#follow_ups + 1] = ended_batch
  -- A user without channels may not publish. Whoever waits looks again after some seconds.
  redis.pcall('PUBLISH', shard .. 'settled:' .. job_id, status)
  return follow_ups
end
