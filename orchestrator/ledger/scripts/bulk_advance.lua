-- Purpose: record what was done with the jobs of a part of a bulk action.
-- KEYS: 1 bulk action, 2 its parts, 3 bulk actions of its tenant, 4 started ones
-- ARGV: 1 id, 2 now ms, 3 lease token, 4 jobs of the part that are left, 5 number of jobs that were done,
--   6 refused jobs (JSON list: reason, number, ...), 7 when the action is due again ms, 8 what it waits
--   for ('' nothing), 9 lifetime ms
-- Returns: recorded | finished | stale (another worker has the lease, or the action has expired)
local id, now, lease, left, done = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local reasons, due, waits, lifetime = ARGV[6], ARGV[7], ARGV[8], ARGV[9]

local holder, part, parts = unpack(redis.call('HMGET', KEYS[1], 'lease', 'part', 'parts'))
if holder ~= lease then
  return {'stale'}
end
redis.call('HINCRBY', KEYS[1], 'done', done)
local refused = cjson.decode(reasons)
for number = 1, #refused, 2 do
  redis.call('HINCRBY', KEYS[1], 'refused ' .. refused[number], refused[number + 1])
end
if redis.call('HEXISTS', KEYS[1], 'stopped') == 1 then
  redis.call('HDEL', KEYS[1], 'lease', 'claimed')
  return {'finished'}
end
redis.call('HSET', KEYS[1], 'waits', waits)
if left ~= '' then
  redis.call('HSET', KEYS[2], part, left)
else
  redis.call('HDEL', KEYS[2], part)
  part = redis.call('HINCRBY', KEYS[1], 'part', 1)
end
redis.call('HDEL', KEYS[1], 'lease', 'claimed')
for number = 1, 3 do
  redis.call('PEXPIRE', KEYS[number], lifetime)
end
if tonumber(part) >= tonumber(parts) then
  redis.call('HSET', KEYS[1], 'finished', now)
  redis.call('ZREM', KEYS[3], id)
  redis.call('ZREM', KEYS[4], id)
  return {'finished'}
end
redis.call('ZADD', KEYS[4], due, id)
return {'recorded'}
