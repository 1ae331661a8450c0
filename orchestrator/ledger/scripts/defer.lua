-- Purpose: record a poll without an outcome. The job is due again later.
-- KEYS: 1 job, 2 events, 3 agenda
-- ARGV: 1 now ms, 2 lease token, 3 due at ms, 4 tries, 5 detail JSON,
--       6 pending failure JSON ('' none), 7 '1' if the task runs
-- Returns: deferred | stale (the caller does not hold the lease, or the job is not running) | missing
local now, lease, due_at, tries, detail = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local pending_failure, is_running = ARGV[6], ARGV[7] == '1'

local status, known = read_job('pending_failure')
if not status then
  return {'missing'}
end
if status ~= 'running' or job.lease ~= lease then
  return {'stale'}
end
if pending_failure ~= '' then
  set('tries', tries, 'updated', now, 'pending_failure', pending_failure)
elseif is_running then
  set('tries', tries, 'updated', now, 'seen_running', now)
else
  set('tries', tries, 'updated', now)
end
if known and pending_failure == '' then
  redis.call('HDEL', job_key, 'pending_failure')
end
release_lease()
reschedule('running', due_at)
add_event(now, 'polled', detail)
return {'deferred'}
