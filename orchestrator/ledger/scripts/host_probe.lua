-- Purpose: take the next probe of a paused host, if it is due.
-- KEYS: 1 hosts
-- ARGV: 1 host, 2 now ms, 3 time between probes ms
-- Returns: probe | paused (another process probes it, or the probe is not due)
--   | healthy (it is not paused)
local host, now, interval = ARGV[1], ARGV[2], ARGV[3]

local failures, since, probe = string.match(redis.call('HGET', KEYS[1], host) or '',
  '^(%d+) (%d+) (%d+)$')
if not probe or probe == '0' then
  return {'healthy'}
end
if tonumber(probe) > tonumber(now) then
  return {'paused'}
end
redis.call('HSET', KEYS[1], host,
  string.format('%.0f %.0f %.0f', failures, since, now + interval))
return {'probe'}
