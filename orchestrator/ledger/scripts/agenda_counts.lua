-- Purpose: count the open jobs of a shard, and the due ones that may start now. A job that must wait for its provider is not
--   counted. The cost grows with the due flows, not with the jobs.
-- KEYS: 1 agenda
-- ARGV: 1 now ms, 2 providers with limits: name max interval burst, ... ('-' no limit)
-- Returns: open jobs, due jobs, the time since which the first of these could start ms ('' none)
local now, configured = tonumber(ARGV[1]), ARGV[2]
local shard = string.match(KEYS[1], '^(.*:)agenda$')

local groups, first_at = {}, nil
local function note(since)
  first_at = math.min(first_at or since, since)
end

for _, name in ipairs(redis.call('ZRANGEBYSCORE', shard .. 'flows', '-inf', now)) do
  local flow = shard .. 'flow:' .. name
  local first = redis.call('ZRANGE', flow, 0, 0, 'WITHSCORES')
  if first[1] and tonumber(first[2]) <= now then
    local kind, provider = string.match(name, '^(%w+):([^:]*)')
    local group = groups[kind .. ':' .. provider]
      or {kind = kind, provider = provider, due = 0, since = now}
    groups[kind .. ':' .. provider] = group
    group.due = group.due + redis.call('ZCOUNT', flow, '-inf', now)
    group.since = math.min(group.since, tonumber(first[2]))
  end
end

local due = 0
for _, group in pairs(groups) do
  local places, since = group.due, group.since
  if group.kind ~= 'poll' then
    local state = admission_state(shard, group.provider, configured)
    local new, repeated = free_places(state, now, now)
    places = math.min(places, group.kind == 'queued' and new or repeated)
    since = math.max(since, free_since(state, now, group.kind == 'queued'))
  end
  if places > 0 then
    due = due + places
    note(since)
  end
end

-- At its deadline a job does not wait for its provider any more.
local first = redis.call('ZRANGEBYSCORE', shard .. 'deadlines', '-inf', now, 'WITHSCORES', 'LIMIT', 0, 1)
if first[1] and tonumber(redis.call('ZSCORE', KEYS[1], first[1]) or now + 1) <= now then
  due = math.max(due, redis.call('ZCOUNT', shard .. 'deadlines', '-inf', now))
  note(tonumber(first[2]))
end
return {redis.call('ZCARD', KEYS[1]), due, first_at and string.format('%.0f', first_at) or ''}
