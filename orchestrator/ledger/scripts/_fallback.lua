-- Functions that move a queued job to one of its fallbacks. Few jobs need them. The loader puts this file
-- after the prelude and the admission. docs/admission.md explains the rules.

local function fallbacks()
  -- Forget the fallbacks that are left: an attempt may have been accepted.
  local function drop_fallbacks()
    if job.fallback then
      redis.call('HDEL', job_key, 'fallback')
      redis.call('ZREM', shard .. 'movable:' .. job.provider, job_id)
      job.fallback = false
    end
  end

  -- Returns why the job cannot be submitted at a fallback now, and whether it never can.
  local function obstacle(each, now, created, configured)
    if each.budget
      and accounts().over_budget(created, job.tenant, each.provider, each.cost, each.unit, each.budget) then
      return 'daily_budget', true
    end
    return (must_wait(admission_state(shard, each.provider, configured), now, true)), false
  end

  local function note_skipped(now, left, obstacles, number)
    for i = 1, number do
      add_event(now, 'fallback_skipped',
        '{"provider":"' .. left[i].provider .. '","reason":"' .. obstacles[i] .. '"}')
    end
  end

  -- Returns the first fallback that may get the job now: its number, the fallbacks that are left, and why
  -- each before it cannot get it. If the job must leave, a fallback where it waits will do. Fallbacks that
  -- can never get the job are forgotten when no other is left.
  local function choose_fallback(now, configured, must)
    local left, created = cjson.decode(job.fallback), get('created')
    local waits, obstacles = nil, {}
    for i, each in ipairs(left) do
      local reason, never = obstacle(each, now, created, configured)
      if not reason then
        return i, left, obstacles
      end
      obstacles[i] = reason
      waits = waits or not never and i
    end
    if not waits then
      note_skipped(now, left, obstacles, #left)
      drop_fallbacks()
    end
    return must and waits, left, obstacles
  end

  -- Move the queued job to a chosen fallback, where it is due now. The ones before it are passed over.
  local function move_to(now, chosen, left, obstacles, reason)
    note_skipped(now, left, obstacles, chosen - 1)
    local to, rest = left[chosen], {}
    accounts().change_provider(now, to.provider,
      to.budget and string.format('%.9f', to.cost) .. ' ' .. to.unit, reason)
    for i = chosen + 1, #left do
      rest[#rest + 1] = left[i]
    end
    job.fallback = rest[1] and cjson.encode(rest) or false
    if job.fallback then
      set('fallback', job.fallback)
    else
      redis.call('HDEL', job_key, 'fallback')
    end
    reschedule('queued', now)
  end

  -- Move a waiting job whose provider is held, or that would wait until half of its time is over. Returns
  -- true if it has moved. `handed` tells a repeated call of the claim.
  local function leave(state, reason, ends, lease, now, half_time, configured)
    if not is_held(state, reason) and math.max(now, tonumber(ends) or 0) < half_time then
      return false
    end
    local chosen, left, obstacles = choose_fallback(now, configured, false)
    if chosen then
      set('handed', lease .. ' moved')
      move_to(now, chosen, left, obstacles, reason)
    end
    return chosen
  end

  return {leave = leave, choose = choose_fallback, move_to = move_to, drop = drop_fallbacks}
end
