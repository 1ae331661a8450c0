-- Purpose: take the lease on a due follow-up of a job.
-- KEYS: 1 job, 2 events, 3 agenda
-- ARGV: 1 now ms, 2 name (archive, notify or confirm), 3 lease token, 4 end of the lease ms
-- Returns: claimed, the job's fields, its timeline (of an archive only) | not_due | missing
-- A repeated call with the same token returns claimed again.
local now, name, lease, lease_end = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local status, holder = read_job(name .. '.lease')
if not status then
  return {'missing'}
end
if holder ~= lease then
  local due = redis.call('ZSCORE', shard .. 'flow:' .. name .. ':' .. job.tenant, job_id)
  if not due or tonumber(due) > tonumber(now) then
    return {'not_due'}
  end
  set(name .. '.lease', lease)
  follow(name, lease_end)
end
local events = name == 'archive' and redis.call('LRANGE', events_key, 0, -1) or {}
return {'claimed', redis.call('HGETALL', job_key), events}
