-- Purpose: take or renew the lease of the recorder that writes the history of a shard. The lease only
--   saves work: the history accepts each change once, whoever writes it.
-- KEYS: 1 lease
-- ARGV: 1 token of the recorder, 2 duration ms
-- Returns: held | other (another recorder has it)
local token, duration = ARGV[1], ARGV[2]

local holder = redis.call('GET', KEYS[1])
if holder and holder ~= token then
  return {'other'}
end
redis.call('SET', KEYS[1], token, 'PX', duration)
return {'held'}
