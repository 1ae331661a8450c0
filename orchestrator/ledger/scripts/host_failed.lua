-- Purpose: record a failed notification to a host. A host is paused after a number of failures over a
--   minimum time. A paused host is probed once per interval.
-- KEYS: 1 hosts
-- ARGV: 1 host, 2 now ms, 3 number of failures that pauses it, 4 minimum time since the first
--   failure ms, 5 time between probes ms
-- Returns: failing | paused (by this failure) | still_paused
local host, now, failures_to_open, min_failing, interval = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local record = redis.call('HGET', KEYS[1], host) or ('0 ' .. now .. ' 0')
local failures, since, probe = string.match(record, '^(%d+) (%d+) (%d+)$')
failures = failures + 1
local state = 'failing'
if probe ~= '0' then
  state = 'still_paused'
elseif failures >= tonumber(failures_to_open) and now - since >= tonumber(min_failing) then
  state, probe = 'paused', now + interval
end
redis.call('HSET', KEYS[1], host, string.format('%.0f %.0f %.0f', failures, since, probe))
return {state}
