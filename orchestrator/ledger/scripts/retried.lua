-- Purpose: record on a job without a success that its request has a new job.
-- KEYS: 1 job, 2 events, 3 agenda
-- ARGV: 1 now ms, 2 id of the new job
-- Returns: recorded | duplicate (this job was recorded before) | open (the job has no outcome yet) | missing
local now, new = ARGV[1], ARGV[2]

local status, known = read_job('retried_as')
if not status then
  return {'missing'}
end
if FLOWS[status] then
  return {'open'}
end
if known == new then
  return {'duplicate'}
end
set('retried_as', new, 'updated', now)
record_change()
return {'recorded'}
