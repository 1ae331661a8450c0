-- Purpose: create a queued job, or return the job of the same idempotency key. A key whose job has
--   expired counts as new.
-- KEYS: 1 job, 2 events, 3 agenda, 4 idempotency (the job key again when there is none)
-- ARGV: 1 now ms, 2 request JSON, 3 deadline ms, 4 fingerprint, 5 idempotency lifetime ms ('' none),
--       6 '1' if the request names a receiver of notifications
-- Returns: created | replayed, job id | mismatch, job id
-- Repeating the call with the same job id changes nothing and answers created.
local now, request, deadline, fingerprint, lifetime = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local notifies = ARGV[6]

if redis.call('EXISTS', key.job) == 1 then
  return {'created'}
end
if lifetime ~= '' then
  local known = redis.call('GET', KEYS[4])
  local id, seen = string.match(known or '', '^(%S+) (%S+)$')
  if id and redis.call('EXISTS', (string.gsub(key.job, job_id, id, 1))) == 1 then
    return {seen == fingerprint and 'replayed' or 'mismatch', id}
  end
  redis.call('SET', KEYS[4], job_id .. ' ' .. fingerprint, 'PX', lifetime)
end
set('status', 'queued', 'request', request, 'attempt', 0,
  'created', now, 'updated', now, 'deadline', deadline)
if notifies == '1' then
  set('notify', 'waiting')
end
count('queued', 1)
redis.call('ZADD', shard .. 'jobs', 0, job_id)
reschedule(now)
event(now, 'created', '{}')
return {'created'}
