-- Purpose: list due jobs of every provider and tenant in turn, as many as may start now. Removes entries
--   of expired jobs. The cost grows with the listed jobs and the flows, not with the due jobs.
-- KEYS: 1 agenda
-- ARGV: 1 now ms, 2 most jobs of a provider that wait for the same thing, 3 until when submissions may
--       start ms, 4 providers with limits: name max interval burst, ... ('-' no limit),
--       5 places: provider number, ..., 6 places of all other providers together
-- Returns: a list of job id, status, provider, ...; ids of jobs that were left out: they have ended, or cannot be claimed
local now, most, horizon, configured = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local places, others = ARGV[5], tonumber(ARGV[6])
local shard = string.match(KEYS[1], '^(.*:)agenda$')
local room = room_of(places, others)

local due, listed, left_out = {}, {}, {}
-- List a job once, unless it has expired or cannot be read. `target` is the provider where it has a place,
-- if that is not its own.
local function list(jobs, id, target)
  local status, provider = read_open(shard, id)
  if not status then
    leave_out(shard, KEYS[1], jobs, id, now, left_out)
  elseif not listed[id] and room.left(target or provider) > 0 then
    listed[id] = true
    room.take(target or provider)
    due[#due + 1], due[#due + 2], due[#due + 3] = id, status, target or provider
  end
end

-- Returns up to `number` entries of a sorted set until now.
local function first_of(jobs, number)
  return redis.call('ZRANGEBYSCORE', jobs, '-inf', now, 'LIMIT', 0, number)
end

trim_changes(shard)
enter_flows(shard, KEYS[1], now)
for _, id in ipairs(first_of(shard .. 'deadlines', most)) do
  if is_due(KEYS[1], id, now) then
    list(shard .. 'deadlines', id)
  else -- a worker holds the lease
    redis.call('ZADD', shard .. 'deadlines', redis.call('ZSCORE', KEYS[1], id), id)
  end
end
local groups = due_groups(shard, now, room)
for _, group in ipairs(groups) do
  local left = math.min(most, free_places_of(group, shard, now, tonumber(horizon), configured),
    math.ceil(room.left(group.provider) / group.waiting))
  for i, flow in ipairs(in_turn(group.flows, left, shard, now)) do
    local jobs = shard .. 'flow:' .. flow.name
    for _, id in ipairs(first_of(jobs, math.ceil(left / (#group.flows - i + 1)))) do
      left = left - 1
      list(jobs, id)
    end
  end
end
local place_at = places_of_fallbacks(shard, now, configured)
for _, group in ipairs(groups) do
  if group.kind == 'queued' then
    for _, id in ipairs(movable_jobs(shard, group.provider, now, configured, most)) do
      local target = is_due(KEYS[1], id, now) and place_at(id)
      if target then
        list(shard .. 'movable:' .. group.provider, id, target)
      end
    end
  end
end
return {due, left_out}
