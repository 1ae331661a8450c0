-- Purpose: cancel a queued job. Providers cannot cancel a task. So a submitted job is charged, and it
--   continues to its outcome.
-- KEYS: 1 job, 2 events, 3 agenda
-- ARGV: 1 now ms, 2 error JSON, 3 retention ms
-- Returns: cancelled, due follow-ups, ... | duplicate (cancelled before) | in_flight (submitted)
--   | terminal | missing
local now, error, retention = ARGV[1], ARGV[2], ARGV[3]

local status, notify, reserved = read_job('notify', 'reserved')
if not status then
  return {'missing'}
end
if status == 'cancelled' then
  return {'duplicate'}
end
if not FLOWS[status] then
  return {'terminal'}
end
if status ~= 'queued' then
  return {'in_flight'}
end
local follow_ups = settle(now, 'cancelled', 'cancel', retention, '', notify, reserved, {'error', error})
return {'cancelled', unpack(follow_ups)}
