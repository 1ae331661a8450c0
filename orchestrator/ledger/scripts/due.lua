-- Purpose: list the due jobs, the longest overdue first. Removes the entries of expired jobs. The
--   cost grows with the number of due jobs, not with the number of open jobs.
-- KEYS: 1 agenda
-- ARGV: 1 now ms, 2 limit (jobs that are looked at), 3 prefix of job keys (same hash tag as KEYS[1]),
--       4 the most jobs of all other providers, then: a provider, the most jobs of it, ...
-- Returns: job id, status, provider, job id, status, provider, ...
local now, limit, prefix, others = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local room = {}
for i = 5, #ARGV, 2 do
  room[ARGV[i]] = tonumber(ARGV[i + 1])
end

-- Returns true if one more job of the provider may be listed, and counts it.
local function takes(provider)
  local left = room[provider] or others
  if left <= 0 then
    return false
  elseif room[provider] then
    room[provider] = left - 1
  else
    others = left - 1
  end
  return true
end

local due = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, limit)) do
  local status, provider = unpack(redis.call('HMGET', prefix .. id, 'status', 'provider'))
  if not status then
    redis.call('ZREM', KEYS[1], id)
  elseif takes(provider or '') then
    due[#due + 1] = id
    due[#due + 1] = status
    due[#due + 1] = provider or ''
  end
end
return due
