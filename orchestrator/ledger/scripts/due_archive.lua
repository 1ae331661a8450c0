-- Purpose: list the jobs whose archive is due. Jobs whose links expire soonest come first. When
--   those are not due (after a failed try, for example), the longest overdue jobs follow.
-- KEYS: 1 archive, 2 expiring
-- ARGV: 1 now ms, 2 limit
-- Returns: job id, job id, ... Costs O(limit).
local now, limit = tonumber(ARGV[1]), tonumber(ARGV[2])

local due, seen = {}, {}
local function add(id)
  if not seen[id] and #due < limit then
    seen[id] = true
    due[#due + 1] = id
  end
end

for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, limit - 1)) do
  local look = redis.call('ZSCORE', KEYS[1], id)
  if look and tonumber(look) <= now then
    add(id)
  end
end
if #due < limit then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, limit)) do
    add(id)
  end
end
return due
