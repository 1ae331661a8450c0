-- Purpose: forget an enqueue message that has its job, or was refused. A flow without messages ends.
-- KEYS: 1 messages of a flow, 2 flows with messages
-- ARGV: 1 message, 2 flow
-- Returns: nothing
local message, flow = ARGV[1], ARGV[2]

redis.call('ZREM', KEYS[1], message)
if redis.call('ZCARD', KEYS[1]) == 0 then
  redis.call('ZREM', KEYS[2], flow)
end
return {}
