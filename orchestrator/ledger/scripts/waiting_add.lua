-- Purpose: keep an enqueue message until its tenant may have the job. A message that waits already stays
--   where it is.
-- KEYS: 1 messages of a flow, 2 flows with messages
-- ARGV: 1 message, 2 flow, 3 now ms, 4 due at ms, if the flow has no message yet
-- Returns: nothing
local message, flow, now, due_at = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

redis.call('ZADD', KEYS[1], 'NX', now, message)
redis.call('ZADD', KEYS[2], 'NX', due_at, flow)
return {}
