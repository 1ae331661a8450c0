-- Purpose: begin a batch, or return the batch of the same idempotency key.
-- KEYS: 1 batch, 2 idempotency (the batch key again if the request has no key), 3 open batches
-- ARGV: 1 now ms, 2 batch id, 3 tenant, 4 receiver JSON ('' none), 5 fingerprint,
--       6 lifetime of the idempotency key ms ('' no key), 7 time ms when a batch that was never sealed is due
-- Returns: created | replayed, batch id | mismatch, batch id
--   | gone, batch id (the batch of the key has expired; new jobs could be a second payment)
-- A repeated call with the same batch id changes nothing and returns created.
local now, id, tenant, receiver, fingerprint = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local lifetime, due_at = ARGV[6], ARGV[7]

if redis.call('EXISTS', KEYS[1]) == 1 then
  return {'created'}
end
if lifetime ~= '' then
  local known, first_fingerprint = string.match(redis.call('GET', KEYS[2]) or '', '^(%S+) (%S+)$')
  if known and redis.call('EXISTS', (string.gsub(KEYS[1], id, known, 1))) == 0 then
    return {'gone', known}
  elseif known then
    return {first_fingerprint == fingerprint and 'replayed' or 'mismatch', known}
  end
  redis.call('SET', KEYS[2], id .. ' ' .. fingerprint, 'PX', lifetime)
end
redis.call('HSET', KEYS[1], 'tenant', tenant, 'created', now)
if receiver ~= '' then
  redis.call('HSET', KEYS[1], 'receiver', receiver, 'notify', 'waiting')
end
redis.call('ZADD', KEYS[3], due_at, id)
return {'created'}
