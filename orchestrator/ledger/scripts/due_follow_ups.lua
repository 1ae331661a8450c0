-- Purpose: list due follow-ups of every tenant in turn. Removes the entries of jobs that do not exist. The
--   cost grows with the listed jobs and the tenants, not with the due jobs.
--   Of a tenant's archives, the ones with the earliest link expiry come first. Some of these may not be due,
--   for example after a failed try. The longest overdue archives take their places.
-- KEYS: 1 tenants with this follow-up
-- ARGV: 1 now ms, 2 limit, 3 name (archive, notify or confirm)
-- Returns: job id, job id, ...
local now, limit, name = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local shard = string.match(KEYS[1], '^(.*:)flows:')
local WAIT_MS = 60000 -- until a job that nobody can claim is listed again

-- Returns up to `most` due jobs of a tenant.
local function first_of(tenant, most)
  local flow, expiring = shard .. 'flow:' .. name .. ':' .. tenant, shard .. 'expiring:' .. tenant
  local jobs, listed = {}, {}
  local function add(id)
    if listed[id] or #jobs >= most then
      return
    end
    listed[id] = true
    local job = redis.pcall('HMGET', shard .. 'job:' .. id, 'status', 'format')
    if job[1] and tonumber(job[2] or 0) then
      jobs[#jobs + 1] = id
    elseif redis.call('EXISTS', shard .. 'job:' .. id) == 1 then -- nobody can claim it, and the step says so
      redis.call('ZADD', flow, now + WAIT_MS, id)
      jobs[#jobs + 1] = id
    else
      redis.call('ZREM', flow, id)
      redis.call('ZREM', expiring, id)
    end
  end

  for _, id in ipairs(name == 'archive' and redis.call('ZRANGE', expiring, 0, most - 1) or {}) do
    if tonumber(redis.call('ZSCORE', flow, id) or now + 1) <= now then
      add(id)
    end
  end
  if #jobs < most then
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', flow, '-inf', now, 'LIMIT', 0, most)) do
      add(id)
    end
  end
  return jobs
end

move_follow_ups(shard, name)
local flows = {}
for _, tenant in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
  local first = redis.call('ZRANGE', shard .. 'flow:' .. name .. ':' .. tenant, 0, 0, 'WITHSCORES')
  if not first[1] then
    redis.call('ZREM', KEYS[1], tenant)
  elseif tonumber(first[2]) > now then
    redis.call('ZADD', KEYS[1], first[2], tenant)
  else
    flows[#flows + 1] = {name = name .. ':' .. tenant, tenant = tenant}
  end
end
return in_turns(in_turn(flows, limit, shard, now), limit, first_of)
