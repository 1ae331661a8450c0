-- Purpose: take the lease on a due job, for one step.
--   A queued job becomes submitting and gets a new attempt, unless its deadline has passed.
--   A job whose provider is paused for the step is due again after the pause, or at its deadline.
--   A submitting job with an expired lease becomes unconfirmed, because its worker may have sent the
--   request.
-- KEYS: 1 job, 2 events, 3 agenda
-- ARGV: 1 now ms, 2 lease token, 3 end of the lease ms, 4 step,
--       5 random number from 0 to 1
-- Returns: claimed, the job's fields | not_due | missing
-- A repeated call with the same token returns claimed again.
local now, lease, lease_end, step, random = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
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
  if postpone_if_paused(now, step, tonumber(random)) then
    return {'not_due'}
  end
  if status == 'queued' and tonumber(now) < tonumber(get('deadline')) then
    local attempt = redis.call('HINCRBY', key.job, 'attempt', 1)
    change_status(status, 'submitting', 'sent.' .. attempt, now)
    add_event(now, 'submitting', '{"attempt":' .. attempt .. '}')
  elseif status == 'submitting' then
    local attempt = get('attempt')
    change_status(status, 'unconfirmed', 'tries', 0)
    mark_unconfirmed(now, attempt)
    add_event(now, 'unconfirmed', '{"attempt":' .. attempt .. ',"reason":"lease ran out"}')
  end
  set('lease', lease, 'updated', now)
  reschedule(lease_end)
end
return {'claimed', redis.call('HGETALL', key.job)}
