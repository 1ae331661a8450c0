-- Open jobs of a version that had no tenants and no flows. The loader puts this file before the prelude
-- and the flows.

-- An open job is in one flow: the jobs of one provider and one tenant that wait for the same thing.
local FLOWS = {queued = 'queued', submitting = 'resend', unconfirmed = 'resend', running = 'poll'}

-- Returns the status, provider, tenant, deadline and format of an open job. Returns nothing of a job that has ended
-- or expired, or that no version can claim, because somebody changed its key or its fields.
local function read_open(root, id)
  local job = redis.pcall('HMGET', root .. 'job:' .. id, 'status', 'provider', 'tenant', 'deadline',
    'created', 'attempt', 'format')
  local status, provider, deadline = job[1], job[2], tonumber(job[4])
  if FLOWS[status or ''] and string.find(provider or '', '^[%l%d]+$') and deadline
    and tonumber(job[5]) and tonumber(job[6]) and tonumber(job[7] or 0) then
    return status, provider, job[3], deadline, job[7]
  end
end

-- Make the open job one of the tenant `default`. Count and list it, as a transition would have.
local function adopt(root, id)
  local job = root .. 'job:' .. id
  local status, provider, deadline, attempt = unpack(redis.call('HMGET', job,
    'status', 'provider', 'deadline', 'attempt'))
  local kind, due = FLOWS[status], redis.call('ZSCORE', root .. 'agenda', id)
  redis.call('HSET', job, 'tenant', 'default')
  redis.call('HINCRBY', root .. 'counts', 'default open', 1)
  redis.call('ZADD', root .. 'jobs:default', 0, id)
  local flow = kind .. ':' .. provider .. ':default'
  redis.call('ZADD', root .. 'flow:' .. flow, due, id)
  redis.call('ZADD', root .. 'flows', 'LT', due, flow)
  if kind == 'queued' then
    redis.call('ZADD', root .. 'turns:' .. provider, 'NX', 0, 'default')
  else
    local sent = redis.call('HGET', job, 'sent.' .. attempt)
    redis.call('ZADD', root .. 'in_flight:' .. provider, sent or 0, id .. '.' .. attempt)
  end
  if kind == 'poll' then
    redis.call('HINCRBY', root .. 'counts', 'running:' .. provider, 1)
  else
    redis.call('ZADD', root .. 'deadlines', deadline, id)
  end
end
