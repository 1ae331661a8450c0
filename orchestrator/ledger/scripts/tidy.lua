-- Purpose: forget what is left of jobs that have expired: the oldest entries of the index whose job
--   is gone, and unconfirmed attempts from before the retention time. Costs O(limit).
-- KEYS: 1 index of jobs, 2 unconfirmed attempts
-- ARGV: 1 limit, 2 prefix of job keys (same hash tag as KEYS[1]), 3 oldest unconfirmed attempt ms
-- Returns: how many were forgotten
local limit, prefix, oldest = ARGV[1], ARGV[2], ARGV[3]

local forgotten = redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. oldest)
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, limit - 1)) do
  if redis.call('EXISTS', prefix .. id) == 0 then
    forgotten = forgotten + redis.call('ZREM', KEYS[1], id)
  end
end
return {forgotten}
