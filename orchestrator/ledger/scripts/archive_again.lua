-- Purpose: start a dead archive again, from the first try. The retention time of the job stops until the
--   archive ends. An archive that waits for its next try is due now.
-- KEYS: 1 job, 2 events, 3 agenda
-- ARGV: 1 now ms, 2 last try of the archive that the caller has read ms, 3 images JSON
--       ('' unchanged), 4 late images JSON ('' unchanged), 5 expiry of the first link ms
-- Returns: recorded (it is pending now, or was before) | open (the job has no outcome yet)
--   | silent (there is no archive, or every image has a copy)
--   | stale (the archive ended again since the caller has read it) | missing
local now, tried, images, late_images, expires = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local status, archive, last, lease = read_job('archive', 'archive.tried', 'archive.lease')
if not status then
  return {'missing'}
end
if archive == 'pending' then
  local due = redis.call('ZSCORE', shard .. 'flow:archive:' .. job.tenant, job_id)
  if not lease and due and tonumber(due) > tonumber(now) then
    set('archive.next', now)
    record_change()
    follow('archive', now)
  end
  return {'recorded'}
end
if FLOWS[status] then
  return {'open'}
end
if archive ~= 'dead' then
  return {'silent'}
end
if last ~= tried then
  return {'stale'}
end
set('archive.tries', 0, pending_fields(now, 'archive'))
if images ~= '' then
  set('images', images)
end
if late_images ~= '' then
  set('late_images', late_images)
end
follow('archive', now)
redis.call('ZADD', shard .. 'expiring:' .. job.tenant, expires, job_id)
add_event(now, 'archive_again', '{}')
redis.call('ZREM', shard .. 'given_up', job_id)
redis.call('PERSIST', job_key)
redis.call('PERSIST', events_key)
return {'recorded'}
