-- Purpose: list the due archives. The jobs with the earliest link expiry come first. Some of these may
--   not be due, for example after a failed try. The longest overdue archives take their places.
-- KEYS: 1 archive, 2 expiring
-- ARGV: 1 now ms, 2 limit
-- Returns: job id, job id, ... The cost grows with the limit only.
local now, limit = tonumber(ARGV[1]), tonumber(ARGV[2])

local due, listed = {}, {}
local function add(id)
  if not listed[id] and #due < limit then
    listed[id] = true
    due[#due + 1] = id
  end
end

for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, limit - 1)) do
  local due_at = redis.call('ZSCORE', KEYS[1], id)
  if due_at and tonumber(due_at) <= now then
    add(id)
  end
end
if #due < limit then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, limit)) do
    add(id)
  end
end
return due
