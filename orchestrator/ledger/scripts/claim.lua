-- Purpose: take the lease on a due job, for one step.
--   queued becomes submitting (a new attempt), unless its deadline passed. submitting with an
--   expired lease becomes unconfirmed, because its worker may have sent the request.
-- KEYS: 1 job, 2 events, 3 agenda
-- ARGV: 1 now ms, 2 lease token, 3 end of the lease ms, 4 step
-- Returns: claimed, the job's fields | not_due | missing
-- Repeating the call with the same token answers claimed again.
local now, lease, lease_end, step = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local STEPS = {queued = 'submit', submitting = 'submit', unconfirmed = 'submit', running = 'poll'}

local status = get('status')
if not status then
  redis.call('ZREM', key.agenda, job_id)
  return {'missing'}
end
if get('lease') ~= lease then
  local due = redis.call('ZSCORE', key.agenda, job_id)
  if not due or tonumber(due) > tonumber(now) or STEPS[status] ~= step then
    return {'not_due'}
  end
  if status == 'queued' and tonumber(now) < tonumber(get('deadline')) then
    local attempt = redis.call('HINCRBY', key.job, 'attempt', 1)
    become(status, 'submitting', 'sent.' .. attempt, now)
    event(now, 'submitting', '{"attempt":' .. attempt .. '}')
  elseif status == 'submitting' then
    local attempt = get('attempt')
    become(status, 'unconfirmed', 'tries', 0)
    risk(now, attempt)
    event(now, 'unconfirmed', '{"attempt":' .. attempt .. ',"reason":"lease ran out"}')
  end
  set('lease', lease, 'updated', now)
  reschedule(lease_end)
end
return {'claimed', redis.call('HGETALL', key.job)}
