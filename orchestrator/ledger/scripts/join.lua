-- Purpose: join the installation. The first process says how many shards it has. A process with a newer
--   format raises the format. A process may record that it lives.
-- KEYS: 1 shards, 2 format, 3 processes
-- ARGV: 1 shards in the settings of the process, 2 its format, 3 its name ('' none), 4 its facts
-- Returns: shards, format (both of the installation)
local wanted, newest, name, facts = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local shards, format = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
if not shards then
  shards = wanted
  redis.call('SET', KEYS[1], shards)
end
if tonumber(format or 0) < tonumber(newest) then
  format = newest
  redis.call('SET', KEYS[2], format)
end
if name ~= '' then
  redis.call('HSET', KEYS[3], name, facts)
end
return {shards, format}
