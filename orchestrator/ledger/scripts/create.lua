-- Purpose: create a queued job, or return the job of the same idempotency key.
-- KEYS: 1 job, 2 events, 3 agenda, 4 idempotency (the job key again if the request has no key)
-- ARGV: 1 now ms, 2 request JSON, 3 deadline ms, 4 fingerprint,
--       5 lifetime of the idempotency key ms ('' no key), 6 'waiting' if the request asks for a notification ('' none),
--       7 provider, 8 tenant, 9 most open jobs of the tenant, 10 shortest time between its jobs ms,
--       11 jobs of a burst, 12 cost to reserve, 13 its unit, 14 daily budget of the provider
--       ('' for each limit that is absent), 15 digest of the key for searches ('' no key),
--       16 fallbacks: JSON list of provider, and cost, unit and budget if the tenant has a budget there
--       ('' none), 17 context of the trace ('' none), 18 batch ('' none),
--       19 providers with limits: name max interval burst, ... ('-' no limit), 20 job that it retries ('' none)
-- Returns: created, why it is not submitted now ('' no reason), until ms ('' unknown)
--   | replayed, job id | mismatch, job id
--   | gone, job id (the job of the key has expired; a new job could be a second payment)
--   | limited, name of the limit, wait ms (0 unknown); nothing has changed
-- A repeated call with the same job id changes nothing and returns created.
local now, request, deadline, fingerprint = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local lifetime, notifies, provider, tenant, searchable = ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[15]
local max_open, interval, burst = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local cost, unit, budget, fallback = tonumber(ARGV[12]), ARGV[13], tonumber(ARGV[14]), ARGV[16]
local trace, batch, configured, retry_of = ARGV[17], ARGV[18], ARGV[19], ARGV[20]

job = {provider = provider, tenant = tenant, fallback = fallback ~= '' and fallback, moves = false,
  created = now, format = FORMAT}
if redis.call('EXISTS', job_key) == 1 then
  return {'created', reason_to_wait(now, configured)}
end
if lifetime ~= '' then
  local stored = redis.call('GET', KEYS[4])
  local id, first_fingerprint = string.match(stored or '', '^(%S+) (%S+)$')
  if id and redis.call('EXISTS', (string.gsub(job_key, job_id, id, 1))) == 0 then
    return {'gone', id}
  elseif id then
    return {first_fingerprint == fingerprint and 'replayed' or 'mismatch', id}
  end
end
local limit, wait = reached_limit(now, tenant, max_open, interval, burst)
if not limit and budget and accounts().over_budget(now, tenant, provider, cost, unit, budget) then
  limit, wait = 'daily_budget', 86400000 - now % 86400000
end
if limit then
  return {'limited', limit, tostring(wait)}
end
if lifetime ~= '' then
  redis.call('SET', KEYS[4], job_id .. ' ' .. fingerprint, 'PX', lifetime)
end
store({'status', 'queued', 'request', request, 'provider', provider, 'tenant', tenant,
  'attempt', '0', 'created', now, 'updated', now, 'deadline', deadline, 'format', FORMAT},
  {key = searchable, notify = notifies, fallback = fallback, trace = trace, batch = batch,
    retry_of = retry_of})
join_batch(batch)
count('queued')
count(tenant .. ' open')
if interval then
  spend_rate(now, tenant, interval)
end
if budget then
  set('reserved', string.format('%.9f', cost) .. ' ' .. unit)
  accounts().spend(now, provider, unit, cost)
end
index_job(tenant)
redis.call('ZADD', shard .. 'deadlines', math.floor((now + deadline) / 2), job_id)
reschedule('queued', now)
add_event(now, 'created', '{}')
return {'created', reason_to_wait(now, configured)}
