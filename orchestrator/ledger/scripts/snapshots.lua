-- Purpose: read what a check needs of jobs and of their entries, all at one moment.
-- KEYS: 1 agenda
-- ARGV: 1 jobs: a line `<id> <tenant>` for each (the tenant of a missing job), 2 names of fields: name ...
-- Returns: for each job: the values of the fields (none if it does not exist), the number of events
--   `settled`, provider (if left), task and submission of each attempt, when the job and follow-ups are due ms
local jobs, names = ARGV[1], ARGV[2]

local root = string.sub(KEYS[1], 1, -7) -- `agenda` follows it
local fields = {'attempt', 'tenant', 'provider.1', 'task.1', 'sent.1', 'status'}
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

-- Returns the attempts, up to one without a time of its submission: so no number is too large.
local function read_attempts(job, number, first)
  local attempts = {}
  for n = 1, number do
    attempts[n] = n == 1 and first or redis.call('HMGET', job, 'provider.' .. n, 'task.' .. n, 'sent.' .. n)
    if not attempts[n][3] then break end
  end
  return attempts
end

local ids, found, numbers, of_tenant = {}, {}, {}, {}
for id, tenant in string.gmatch(jobs, '(%S+) ([^\n]*)') do
  local job, n = root .. 'job:' .. id, #ids + 1
  local values = redis.call('HMGET', job, unpack(fields))
  local attempts = read_attempts(job, tonumber(values[1] or 0) or 0, {unpack(values, 3, 5)})
  tenant = values[2] or tenant
  of_tenant[tenant] = of_tenant[tenant] or {}
  table.insert(of_tenant[tenant], n)
  values = (values[6] or redis.call('EXISTS', job) == 1) and values or {}
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
