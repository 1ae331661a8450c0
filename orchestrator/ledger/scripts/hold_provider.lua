-- Purpose: postpone a step of all jobs of a provider. A longer postponement stays.
-- KEYS: 1 state of the provider
-- ARGV: 1 now ms, 2 step, 3 until ms, 4 error JSON
-- Returns: (nothing)
local now, step, ends, reason = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), ARGV[4]
local until_name = step == 'submit' and 'open_until' or 'polls_paused_until'
local reason_name = step == 'submit' and 'reason' or 'polls_reason'

local known = tonumber(redis.call('HGET', KEYS[1], until_name) or now)
redis.call('HSET', KEYS[1], until_name, math.max(known, ends), reason_name, reason)
if step == 'submit' then
  redis.call('HDEL', KEYS[1], 'probe_until')
end
return {}
