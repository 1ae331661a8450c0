-- Purpose: end an attempt without an outcome. Another attempt comes later. Either the provider refused
--   this one (event deferred), or the caller allowed a second submission of an unconfirmed attempt (event
--   resubmitted, at most once per job). After a refusal the job may move to a fallback.
-- KEYS: 1 job, 2 events, 3 agenda
-- ARGV: 1 now ms, 2 attempt, 3 lease token, 4 due at ms, 5 tries, 6 event name, 7 detail JSON,
--       8 refusal JSON ('' none), 9 what it shows of the provider: busy, failed, answered, or '',
--       10 whether it moves to a fallback: may (to one that may get it now), must, or '',
--       11 providers with limits: name max interval burst, ... ('-' no limit)
-- Returns: queued | moved, provider (the job is due at this fallback)
--   | exhausted (it must move, and no fallback can get it; it still holds the lease)
--   | stale (the caller does not hold the lease, or the attempt has a task) | missing
local now, attempt, lease, due_at, tries, name, detail, refusal, shows =
  tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local moves_on, configured = ARGV[10], ARGV[11]

local status, resubmitted = read_job('resubmitted')
if not status then
  return {'missing'}
end
if not holds_lease(lease, attempt) then
  return {'stale'}
end
local is_unknown = status == 'unconfirmed' or name == 'resubmitted' -- it may have been accepted
local chosen, left, obstacles
if job.fallback and moves_on ~= '' and not is_unknown then
  chosen, left, obstacles = fallbacks().choose(now, configured, moves_on == 'must')
end
if moves_on == 'must' and not chosen then
  return {'exhausted'}
end
change_status('queued', 'tries', tries, 'updated', now)
if is_unknown and job.fallback then
  fallbacks().drop()
end
if refusal ~= '' then
  set('refusal', refusal)
end
release_lease()
reschedule('queued', due_at)
add_event(now, name, detail)
local landed = attempt
if name == 'resubmitted' then -- this attempt may still be in flight; the one before it has ended
  landed = resubmitted or ''
  set('resubmitted', attempt)
end
redis.call('ZREM', shard .. 'in_flight:' .. job.provider, job_id .. '.' .. landed)
learn(now, shows, refusal)
if chosen then
  fallbacks().move_to(now, chosen, left, obstacles, cjson.decode(refusal).code)
  return {'moved', job.provider}
end
return {'queued'}
