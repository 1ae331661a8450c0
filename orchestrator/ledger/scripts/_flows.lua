-- Functions of the sweep. The loader puts this file after the admission.

-- The number of due entries that each sweep checks. Jobs of an older version have no flow.
local CHECKED_ENTRIES = 50

-- Keep the stream of changes short, if no recorder runs. An entry takes about 45 bytes.
local function trim_changes(root)
  redis.call('XTRIM', root .. 'changes', 'MAXLEN', '~', 200000)
end

-- Put the longest overdue jobs of an older version into their flows.
local function enter_flows(root, agenda, now)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', agenda, '-inf', now, 'LIMIT', 0, CHECKED_ENTRIES)) do
    local status, _, tenant = read_open(root, id)
    if status and not tenant then
      adopt(root, id)
    end
  end
end

-- Returns the flows with due jobs in groups by kind and provider. Corrects when the others are due.
local function due_groups(root, now, room)
  local groups, by_name, waiting = {}, {}, {}
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', root .. 'flows', '-inf', now)) do
    local first = redis.call('ZRANGE', root .. 'flow:' .. name, 0, 0, 'WITHSCORES')
    if not first[1] then
      redis.call('ZREM', root .. 'flows', name)
    elseif tonumber(first[2]) > now then
      redis.call('ZADD', root .. 'flows', first[2], name)
    else
      local kind, provider = string.match(name, '^(%w+):([^:]*)')
      local group = by_name[kind .. provider]
      if not group then
        group = {kind = kind, provider = provider, flows = {}}
        by_name[kind .. provider] = group
        groups[#groups + 1] = group
        local name = room.name_of(provider)
        waiting[name] = (waiting[name] or 0) + 1
      end
      group.flows[#group.flows + 1] = {name = name}
    end
  end
  for _, group in ipairs(groups) do -- these groups share places
    local name = room.name_of(group.provider)
    group.waiting = waiting[name]
    waiting[name] = group.waiting - 1
  end
  return groups
end

-- Returns the number of jobs of a group that may start until `horizon`.
local function free_places_of(group, root, now, horizon, configured)
  if group.kind == 'poll' then
    return UNLIMITED
  end
  local state = admission_state(root, group.provider, configured)
  local new, repeated = free_places(state, now, horizon)
  return group.kind == 'queued' and new or repeated
end

-- Returns the places of a sweep: those of named providers, and `others` for all other providers.
local function room_of(places, others)
  local numbers = {[''] = others}
  for name, number in string.gmatch(places, '(%S+) (%d+)') do
    numbers[name] = tonumber(number)
  end
  local function name_of(provider)
    return numbers[provider] and provider or ''
  end
  return {
    name_of = name_of,
    left = function(provider) return numbers[name_of(provider)] end,
    take = function(provider) numbers[name_of(provider)] = numbers[name_of(provider)] - 1 end,
  }
end

-- Leave out a job that is not open, and look at it again after a while. It is added to `left_out`. An
-- expired job leaves the set and the agenda for good.
local function leave_out(root, agenda, jobs, id, now, left_out)
  local WAIT_MS = 60000
  if redis.call('EXISTS', root .. 'job:' .. id) == 1 then
    redis.call('ZADD', jobs, now + WAIT_MS, id)
    left_out[#left_out + 1] = id
  else
    redis.call('ZREM', agenda, id)
    redis.call('ZREM', jobs, id)
  end
end

-- Returns true if a job is due, or has expired.
local function is_due(agenda, id, now)
  return now >= tonumber(redis.call('ZSCORE', agenda, id) or 0)
end

-- Returns up to `most` queued jobs that need not wait for their provider, because they have a fallback.
-- Each sweep takes other ones.
local function movable_jobs(root, provider, now, configured, most)
  local movable = root .. 'movable:' .. provider
  local number = redis.call('ZCARD', movable)
  local state = number > 0 and admission_state(root, provider, configured)
  local reason = state and must_wait(state, now, true)
  if reason and not is_held(state, reason) then
    number = redis.call('ZCOUNT', movable, '-inf', now)
  end
  if not reason or number == 0 then
    return {}
  end
  local first = number > most and math.floor(now / 1000) * most % number or 0
  return redis.call('ZRANGE', movable, first, math.min(first + most, number) - 1)
end

-- Returns the providers of the fallbacks of a job; none if it has none, or if they cannot be read.
local function fallback_providers(root, id)
  local names = {}
  local is_readable = pcall(function()
    for i, each in ipairs(cjson.decode(redis.call('HGET', root .. 'job:' .. id, 'fallback'))) do
      names[i] = '' .. each.provider
    end
  end)
  return is_readable and names or {}
end

-- Returns a function that takes a place at the first fallback of a job with one. It returns the
-- provider, or nothing.
local function places_of_fallbacks(root, now, configured)
  local places = {}
  return function(id)
    for _, name in ipairs(fallback_providers(root, id)) do
      places[name] = places[name] or free_places(admission_state(root, name, configured), now, now)
      if places[name] > 0 then
        places[name] = places[name] - 1
        return name
      end
    end
  end
end
