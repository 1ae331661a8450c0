-- Purpose: the provider took the attempt and named its task. This is evidence, so it needs no
--   lease: it holds whoever brings it, and however late.
-- KEYS: 1 job, 2 events, 3 agenda
-- ARGV: 1 now ms, 2 attempt, 3 provider task id, 4 next look ms, 5 cost JSON ('' unknown),
--       6 detail JSON
-- Returns: running | settled (has its outcome already) | superseded (a newer attempt is under way)
--   | mismatch (the attempt is another provider task) | missing
local now, attempt, task_id, due_at, cost, detail =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]

local status = get('status')
if not status then
  return {'missing'}
end
if not bind(attempt, task_id) then
  event(now, 'mismatch', detail)
  return {'mismatch'}
end
event(now, 'accepted', detail)
set('updated', now)
if cost ~= '' then
  redis.call('HSETNX', key.job, 'cost', cost) -- the outcome's own cost is the last word
end
if TERMINAL[status] then
  return {'settled'}
end
if get('attempt') ~= attempt then
  return {'superseded'}
end
if status ~= 'running' then
  become(status, 'running', 'tries', 0)
  release()
  reschedule(due_at)
end
return {'running'}
