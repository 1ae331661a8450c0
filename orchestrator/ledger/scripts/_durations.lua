-- How long the tasks of a provider took lately, from the submission to the result. The loader puts this
-- file after the prelude. docs/polling.md explains the rules.
-- `durations:<provider>` has a field for all jobs and one for each model: `<updated ms> <ms> <ms> ...`,
-- the newest result last.

-- A field has the durations of this many results. A model has its own field after this many.
local MAX_RESULTS, MIN_RESULTS = 20, 5
-- The most models of a provider, and the longest name of one, bytes. The model with the oldest result
-- makes room for a new one.
local MAX_MODELS, MAX_NAME = 100, 100

-- Returns the field of the job's model, or false. `request` is JSON that begins with these two names. The
-- request of a job that has moved names the model of another provider.
local function model_field(request)
  local model = not job.moves and string.match(request or '', '^{"provider":"[^"]*","model":"([^"]*)"')
  return model and #model <= MAX_NAME and 'model ' .. model
end

local function drop_oldest_model(key)
  local fields, oldest, oldest_at = redis.call('HGETALL', key), nil, nil
  if #fields <= 2 * (MAX_MODELS + 1) then
    return
  end
  for i = 1, #fields, 2 do
    local updated = tonumber(string.match(fields[i + 1], '^%d+'))
    if fields[i] ~= 'all' and updated < (oldest_at or updated + 1) then
      oldest, oldest_at = fields[i], updated
    end
  end
  redis.call('HDEL', key, oldest)
end

-- Returns a field with one more result, and without the oldest one if it was full.
local function with_result(known, now, took)
  local list = known and string.match(known, '^%d+(.*)$') or ''
  local _, number = string.gsub(list, ' ', ' ')
  if number >= MAX_RESULTS then
    list = string.match(list, '^ %d+(.*)$')
  end
  return now .. list .. ' ' .. string.format('%.0f', took)
end

-- Note how long the task of an attempt took. A callback shows the time. A poll shows it only between the
-- last poll that saw the task run (`seen`, ms) and now. Its result counts as less than the time of the
-- poll, so that the learned time of the first poll falls if too many first polls find the result.
local function note_duration(now, sent, seen, request, by)
  local took = math.max(now - sent, 0)
  if by == 'poll' then
    local shortest = math.max((tonumber(seen) or 0) - sent, 0)
    took = math.max((shortest + took) / 2, 0.85 * took)
  end
  local key, model = shard .. 'durations:' .. job.provider, model_field(request)
  local known = redis.call('HMGET', key, 'all', model or 'all')
  local all = with_result(known[1], now, took)
  if not model then
    redis.call('HSET', key, 'all', all)
    return
  end
  redis.call('HSET', key, 'all', all, model, with_result(known[2], now, took))
  if not known[2] then
    drop_oldest_model(key)
  end
end

-- Returns the durations of the model, or of all jobs of the provider, in ascending order. Returns nothing if
-- too few are known.
local function known_durations(request)
  local model = model_field(request)
  local known = redis.call('HMGET', shard .. 'durations:' .. job.provider, model or 'all', 'all')
  for _, field in ipairs({known[1] or '', known[2] or ''}) do
    local list = {}
    for took in string.gmatch(field, ' (%d+)') do
      list[#list + 1] = tonumber(took)
    end
    if #list >= MIN_RESULTS then
      table.sort(list)
      return list
    end
  end
end

-- A job is polled first within this part of the time from its submission to its deadline. The poll at the
-- deadline is the last one, so a first poll there would have no second chance.
local MAX_SHARE = 0.75

-- Returns how long after its submission (`sent`, ms) a job is polled first, ms. `which` is
--   early: without a callback. 15 of 100 results come before this time.
--   late: a callback is expected. 90 of 100 results come before this time, and few slow ones do not raise it.
-- Returns nothing if too few results are known.
local function learned_wait(request, which, sent)
  local list = which ~= '' and known_durations(request)
  if not list then
    return nil
  end
  local longest = math.floor(MAX_SHARE * (job.deadline - sent))
  if which == 'early' then
    return math.min(list[math.floor(0.15 * #list) + 1], longest)
  end
  local late = list[math.floor(0.9 * #list) + 1]
  return math.min(late, 3 * list[math.floor(0.5 * #list) + 1], longest)
end
