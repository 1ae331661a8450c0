-- Purpose: end the lease on a follow-up, and plan another try.
-- KEYS: 1 job, 2 events, 3 agenda
-- ARGV: 1 now ms, 2 name (archive, notify or confirm), 3 lease token, 4 due at ms,
--       5 tries ('' if nothing was tried), 6 error, 7 images JSON ('' unchanged), 8 detail JSON,
--       9 late images JSON ('' unchanged)
-- Returns: recorded | stale (the caller does not hold the lease) | missing
local now, name, lease, due_at = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local tries, error, images, detail, late_images = ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]

local status, holder = read_job(name .. '.lease')
if not status then
  return {'missing'}
end
if holder ~= lease then
  return {'stale'}
end
set(name .. '.next', due_at)
record_change()
if images ~= '' then
  set('images', images)
end
if late_images ~= '' then
  set('late_images', late_images)
end
if tries ~= '' then
  set(name .. '.tries', tries, name .. '.tried', now, name .. '.error', error)
  add_event(now, name .. '_failed', detail)
end
redis.call('HDEL', job_key, name .. '.lease')
follow(name, due_at)
return {'recorded'}
