-- Purpose: list due jobs of every provider and tenant in turn, as many as may start now. Removes the
--   entries of expired jobs. The cost grows with the listed jobs and the flows, not with the due jobs.
-- KEYS: 1 agenda
-- ARGV: 1 now ms, 2 most jobs of a provider that wait for the same thing,
--       3 until when submissions may start ms,
--       4 providers with limits: name max interval burst, ... ('-' no limit),
--       5 places: provider number, ..., 6 places of all other providers together
-- Returns: job id, status, provider, job id, status, provider, ...
local now, most, horizon, configured = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local places, others = ARGV[5], tonumber(ARGV[6])
local shard = string.match(KEYS[1], '^(.*:)agenda$')
local room = room_of(places, others)

local due, listed = {}, {}
-- List a job once, or remove its entry if it has expired. Returns true if it has the place.
local function list(jobs, id)
  local status, provider = unpack(redis.call('HMGET', shard .. 'job:' .. id, 'status', 'provider'))
  if not status then
    redis.call('ZREM', KEYS[1], id)
    redis.call('ZREM', jobs, id)
  elseif not listed[id] and room.left(provider) > 0 then
    listed[id] = true
    room.take(provider)
    due[#due + 1], due[#due + 2], due[#due + 3] = id, status, provider
  end
end

-- Returns up to `number` entries of a sorted set until now.
local function first_of(jobs, number)
  return redis.call('ZRANGEBYSCORE', jobs, '-inf', now, 'LIMIT', 0, number)
end

enter_flows(shard, KEYS[1], now)
for _, id in ipairs(first_of(shard .. 'deadlines', most)) do
  if now >= tonumber(redis.call('ZSCORE', KEYS[1], id) or 0) then -- a worker may hold the lease
    list(shard .. 'deadlines', id)
  end
end
for _, group in ipairs(due_groups(shard, now, room)) do
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
return due
