-- Purpose: tell when an open job is due, and why it is not submitted.
-- KEYS: 1 job, 2 events, 3 agenda
-- ARGV: 1 now ms, 2 providers with limits: name max interval burst, ... ('-' no limit)
-- Returns: due ms ('' terminal), reason ('' none), until ms ('' unknown)
local now, configured = tonumber(ARGV[1]), ARGV[2]

local status = read_job()
local due = redis.call('ZSCORE', agenda, job_id)
if not due or status == 'running' then
  return {due or '', '', ''}
end
local state = admission_state(shard, job.provider, configured)
local reason, ends = must_wait(state, now, status == 'queued')
return {due, reason or '', tostring(ends or '')}
