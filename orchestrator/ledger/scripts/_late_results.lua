-- Functions for a success that comes after the outcome. The loader puts this file after the prelude.

-- Returns true if the images of the attempt are not on the job.
local function lacks_images(status, attempt)
  local won = status == 'succeeded' and get('winner') == attempt
  return get('task.' .. attempt) and not get('late.' .. attempt) and not won
end

-- Have the confirm step query the task of the attempt. A step that runs now loses its lease, because
-- it may not know this attempt.
local function confirm(now, attempt)
  local attempts = get('confirm.attempts') or ''
  if not string.find(' ' .. attempts .. ' ', ' ' .. attempt .. ' ', 1, true) then
    attempts = attempts == '' and attempt or attempts .. ' ' .. attempt
  end
  set('confirm.attempts', attempts, 'confirm.tries', 0, pending_fields(now, 'confirm'))
  follow('confirm', now)
  redis.call('HDEL', job_key, 'confirm.lease')
  redis.call('PERSIST', job_key)
  redis.call('PERSIST', events_key)
end

-- Keep the images of a success that came after the outcome. They are archived (unless `expires` is ''),
-- and the caller is notified of them after the notification of the outcome. Returns the due follow-ups.
local function add_late_result(now, attempt, images, expires, detail)
  local known = get('late_images')
  if known then
    images = string.sub(known, 1, -2) .. ',' .. string.sub(images, 2)
  end
  set('late.' .. attempt, now, 'late_images', images, 'updated', now)
  local due, notify = {}, get('notify')
  if expires ~= '' then
    set('archive.tries', 0, pending_fields(now, 'archive'))
    follow('archive', now)
    redis.call('ZADD', shard .. 'expiring:' .. job.tenant, expires, job_id)
    redis.call('HDEL', job_key, 'archive.lease') -- a step that runs now does not know these images
    due[1] = 'archive'
  elseif not get('archive') then
    set('archive', 'off')
  end
  if notify == 'pending' then
    set('late.notify', 'owed')
  elseif notify and notify ~= 'gone' then
    set('late.notify', 'due', 'notify.tries', 0, pending_fields(now, 'notify'))
    follow('notify', now)
    redis.call('ZREM', shard .. 'dead', job_id)
    due[#due + 1] = 'notify'
  end
  accounts().charge_late(attempt)
  if due[1] then
    redis.call('PERSIST', job_key)
    redis.call('PERSIST', events_key)
  end
  count_event(now, 'late_result', detail)
  return due
end
