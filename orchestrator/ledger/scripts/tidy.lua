-- Purpose: remove the entries of expired jobs from the index of jobs (oldest first), the unconfirmed
--   attempts and the failed notifications. The cost grows with the limit only.
-- KEYS: 1 index of jobs, 2 unconfirmed attempts, 3 failed notifications
-- ARGV: 1 limit, 2 prefix of job keys (same hash tag as KEYS[1]), 3 time ms: the job of a newer
--   unconfirmed attempt or failed notification cannot have expired
-- Returns: the number of removed entries
local limit, prefix, oldest = ARGV[1], ARGV[2], ARGV[3]

local removed = 0
local function remove_if_expired(index, entry)
  if redis.call('EXISTS', prefix .. string.match(entry, '^[^.]*')) == 0 then
    removed = removed + redis.call('ZREM', index, entry)
  end
end

for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, limit - 1)) do
  remove_if_expired(KEYS[1], id)
end
for _, index in ipairs({KEYS[2], KEYS[3]}) do
  local old = redis.call('ZRANGEBYSCORE', index, '-inf', '(' .. oldest, 'LIMIT', 0, limit)
  for _, entry in ipairs(old) do
    remove_if_expired(index, entry)
  end
end
return {removed}
