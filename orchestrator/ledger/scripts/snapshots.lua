-- Purpose: read what a check needs of jobs and of their entries, all at one moment.
-- KEYS: 1 agenda
-- ARGV: 1 jobs: id tenant ... (the tenant of a job that does not exist), 2 names of fields: name ...
-- Returns: for each job: the values of the fields, the number of events `settled`, the provider (if the job
--   has left it) and the task of each attempt, when the job and its archive, notification and confirmation
--   are due ms
local jobs, names = ARGV[1], ARGV[2]

local root = string.sub(KEYS[1], 1, -7) -- `agenda` follows it
local fields = {'attempt', 'tenant', 'provider.1', 'task.1'}
for name in string.gmatch(names, '%S+') do
  fields[#fields + 1] = name
end

local function count_settled(id)
  local number = 0
  for _, line in ipairs(redis.call('LRANGE', root .. 'events:' .. id, 0, -1)) do
    if string.find(line, '^%S+ settled ') then
      number = number + 1
    end
  end
  return number
end

local function read_attempts(job, number, provider, task)
  local attempts = {number > 0 and {provider, task} or nil}
  for n = 2, number do
    attempts[n] = redis.call('HMGET', job, 'provider.' .. n, 'task.' .. n)
  end
  return attempts
end

local ids, found, numbers, of_tenant = {}, {}, {}, {}
for id, tenant in string.gmatch(jobs, '(%S+) (%S+)') do
  local job, n = root .. 'job:' .. id, #ids + 1
  local values = redis.call('HMGET', job, unpack(fields))
  local attempts = read_attempts(job, tonumber(values[1] or 0), values[3], values[4])
  tenant = values[2] or tenant
  of_tenant[tenant] = of_tenant[tenant] or {}
  table.insert(of_tenant[tenant], n)
  ids[n], numbers[n], found[n] = id, n, {values, count_settled(id), attempts}
end

-- Add when jobs are due to what was found of them, at a place. Reading many scores at once is cheap.
local function add_due(key, place, numbers)
  local members = {}
  for i, n in ipairs(numbers) do
    members[i] = ids[n]
  end
  for i, score in ipairs(redis.call('ZMSCORE', key, unpack(members))) do
    local job = found[numbers[i]]
    job[place] = job[place] or score
  end
end

add_due(KEYS[1], 4, numbers)
for i, step in ipairs({'archive', 'notify', 'confirm'}) do
  for tenant, own in pairs(of_tenant) do
    add_due(root .. 'flow:' .. step .. ':' .. tenant, 4 + i, own)
  end
  add_due(root .. step, 4 + i, numbers) -- of a version without flows of tenants
end
return found
