-- Purpose: list the due jobs, the longest overdue first. Removes the entries of expired jobs. The
--   cost grows with the number of due jobs, not with the number of open jobs.
-- KEYS: 1 agenda
-- ARGV: 1 now ms, 2 limit, 3 prefix of job keys (same hash tag as KEYS[1])
-- Returns: job id, status, job id, status, ...
local now, limit, prefix = ARGV[1], ARGV[2], ARGV[3]

local due = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, limit)) do
  local status = redis.call('HGET', prefix .. id, 'status')
  if status then
    due[#due + 1] = id
    due[#due + 1] = status
  else
    redis.call('ZREM', KEYS[1], id)
  end
end
return due
