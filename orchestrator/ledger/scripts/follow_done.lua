-- Purpose: end a follow-up of a job. If no other follow-up is pending, the retention time starts now.
--   A dead archive is listed in `given_up` until its first link may expire.
--   After the notification of the outcome, the notification of a late result is due.
-- KEYS: 1 job, 2 events, 3 agenda
-- ARGV: 1 now ms, 2 name (archive, notify or confirm), 3 lease token, 4 final status (done, dead or gone),
--       5 tries, 6 error, 7 images JSON ('' unchanged), 8 detail JSON, 9 retention ms,
--       10 late images JSON ('' unchanged)
-- Returns: recorded | stale (the caller does not hold the lease) | missing
local now, name, lease, ended, tries = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local error, images, detail, retention = ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local late_images = ARGV[10]

local status, holder, late = read_job(name .. '.lease', 'late.notify')
if not status then
  return {'missing'}
end
if holder ~= lease then
  return {'stale'}
end
set(name, ended, name .. '.tries', tries, name .. '.tried', now)
set_unless_empty(name .. '.error', error)
local gone = {error == '' and name .. '.error' or nil}
if images ~= '' then
  set('images', images)
end
if late_images ~= '' then
  set('late_images', late_images)
end
if name == 'notify' and ended ~= 'gone' and late == 'owed' then
  set('late.notify', 'due', 'notify.tries', 0, pending_fields(now, 'notify'))
  count(name .. '_' .. ended)
  add_event(now, name .. '_' .. ended, detail)
  follow('notify', now)
  redis.call('HDEL', job_key, 'notify.lease', unpack(gone))
  return {'recorded'}
end
if name == 'notify' and ended == 'dead' then
  redis.call('ZADD', shard .. 'dead', now, job_id)
end
local expires = redis.call('ZSCORE', shard .. 'expiring:' .. job.tenant, job_id)
if name == 'archive' and ended == 'dead' and expires then
  redis.call('ZADD', shard .. 'given_up', expires, job_id)
end
count(name .. '_' .. ended)
add_event(now, name .. '_' .. ended, detail)
redis.call('HDEL', job_key, name .. '.lease', name .. '.next', unpack(gone))
redis.call('ZREM', shard .. 'flow:' .. name .. ':' .. job.tenant, job_id)
if name == 'archive' then
  redis.call('ZREMRANGEBYSCORE', shard .. 'given_up', '-inf', now)
  redis.call('ZREM', shard .. 'expiring:' .. job.tenant, job_id)
  redis.pcall('PUBLISH', shard .. 'settled:' .. job_id, 'archive_' .. ended)
elseif name == 'notify' then
  redis.call('HDEL', job_key, 'late.notify')
else
  redis.call('HDEL', job_key, 'confirm.attempts')
end
if not FLOWS[status] then
  start_retention(retention)
end
return {'recorded'}
