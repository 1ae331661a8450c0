-- Purpose: give a job its only outcome, or recognise that it has one. A callback needs no lease,
--   because it comes from the provider. The outcome of a worker needs its lease.
-- KEYS: 1 job, 2 events, 3 agenda
-- ARGV: 1 now ms, 2 attempt, 3 lease token ('' for a callback), 4 provider task id ('' none known),
--       5 status, 6 by, 7 images JSON, 8 error JSON, 9 cost JSON ('' each when there is none),
--       10 retention ms, 11 detail JSON, 12 when the first image link expires ms
-- Returns: settled, due follow-ups, ... | duplicate (the same outcome) | conflict (another outcome; only recorded)
--   | superseded (an older attempt failed while a newer attempt exists)
--   | mismatch (the attempt is another provider task) | stale (the lease is another's) | missing
local now, attempt, lease, task_id, status, by = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local images, error, cost, retention, detail = ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[11]
local expires = ARGV[12]

local current, newest, holder, winner, bound, sent = unpack(redis.call('HMGET', key.job,
  'status', 'attempt', 'lease', 'winner', 'task.' .. attempt, 'sent.' .. attempt))
if not current then
  return {'missing'}
end
if task_id ~= '' and bound ~= task_id then
  if bound or not sent then
    event(now, 'mismatch', detail)
    return {'mismatch'}
  end
  bound_to(attempt, task_id)
end
if TERMINAL[current] then
  local name = current == status and winner == attempt and 'duplicate' or 'conflict'
  event(now, name, detail)
  return {name}
end
if lease ~= '' and holder ~= lease then
  return {'stale'}
end
if newest ~= attempt and status ~= 'succeeded' then
  event(now, 'superseded', detail)
  return {'superseded'}
end
local told = {'winner', attempt}
for name, value in pairs({images = images, error = error, cost = cost}) do
  if value ~= '' then
    told[#told + 1] = name
    told[#told + 1] = value
  end
end
local follows = settle(now, current, status, by, retention, expires, detail, unpack(told))
return {'settled', unpack(follows)}
