-- Purpose: record that the attempt may have reached the provider, without a readable answer. The same
--   attempt is due again later. No new attempt is made.
-- KEYS: 1 job, 2 events, 3 agenda
-- ARGV: 1 now ms, 2 attempt, 3 lease token, 4 due at ms, 5 tries, 6 detail JSON,
--       7 error JSON ('' no request was sent, or the provider answered)
-- Returns: unconfirmed | stale (the caller does not hold the lease, or the attempt has a task)
--   | missing
local now, attempt, lease, due_at, tries, detail, error =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]

local status = read_job()
if not status then
  return {'missing'}
end
if not holds_lease(lease, attempt) then
  return {'stale'}
end
change_status('unconfirmed', 'tries', tries, 'updated', now)
redis.call('ZADD', shard .. 'unconfirmed', 'NX', now, job_id .. '.' .. attempt) -- it may be charged
release_lease()
reschedule('unconfirmed', due_at)
add_event(now, 'unconfirmed', detail)
local shows = status == 'submitting' and 'failed' or 'failed_again'
learn(tonumber(now), error ~= '' and shows or '', error)
return {'unconfirmed'}
