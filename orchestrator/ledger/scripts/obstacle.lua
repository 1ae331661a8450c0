-- Purpose: tell why a provider must not get a submission now.
-- KEYS: 1 state of the provider
-- ARGV: 1 now ms, 2 providers with limits: name max interval burst, ... ('-' no limit), 3 '1' if it is the
--   submission of a queued job
-- Returns: reason ('' none)
local now, configured, is_new = tonumber(ARGV[1]), ARGV[2], ARGV[3] == '1'

local root, name = string.match(KEYS[1], '^(.-:.-:)provider:(.+)$')
return {must_wait(admission_state(root, name, configured), now, is_new) or ''}
