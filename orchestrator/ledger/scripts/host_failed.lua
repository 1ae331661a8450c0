-- Purpose: record a failed notification of a host. After enough failures over enough time the host
--   is paused, and then probed at an interval.
-- KEYS: 1 hosts
-- ARGV: 1 host, 2 now ms, 3 failures before it is paused, 4 for how long ms, 5 time between probes ms
-- Returns: failing | paused (by this failure) | still_paused
local host, now, enough, long, interval = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local known = redis.call('HGET', KEYS[1], host) or ('0 ' .. now .. ' 0')
local failures, since, probe = string.match(known, '^(%d+) (%d+) (%d+)$')
failures = failures + 1
local state = 'failing'
if probe ~= '0' then
  state = 'still_paused'
elseif failures >= tonumber(enough) and now - since >= tonumber(long) then
  state, probe = 'paused', now + interval
end
redis.call('HSET', KEYS[1], host, string.format('%.0f %.0f %.0f', failures, since, probe))
return {state}
