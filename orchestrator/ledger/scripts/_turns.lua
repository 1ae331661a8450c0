-- The order of turns in sweeps. The loader puts this file before the scripts that need it.

-- Returns the flows in the order in which they share the places. The shorter flows go first, so that
-- what they leave goes to the longer ones. With fewer places than flows, the order rotates.
local function in_turn(flows, places, root, now)
  if places >= #flows then
    for _, flow in ipairs(flows) do
      flow.due = redis.call('ZCOUNT', root .. 'flow:' .. flow.name, '-inf', now)
    end
    table.sort(flows, function(a, b)
      return a.due < b.due or a.due == b.due and a.name < b.name
    end)
    return flows
  end
  local first, rotated = math.floor(now / 1000), {}
  for i = 0, #flows - 1 do
    rotated[i + 1] = flows[(first + i) % #flows + 1]
  end
  return rotated
end

-- Returns up to `limit` jobs of the flows: the first of each, then the second of each, and so on.
-- `first_of` returns the first jobs of a tenant.
local function in_turns(flows, limit, first_of)
  local lists, left, longest = {}, limit, 0
  for i, flow in ipairs(flows) do
    if left == 0 then
      break
    end
    lists[i] = first_of(flow.tenant, math.ceil(left / (#flows - i + 1)))
    left, longest = left - #lists[i], math.max(longest, #lists[i])
  end
  local due = {}
  for number = 1, longest do
    for _, jobs in ipairs(lists) do
      due[#due + 1] = jobs[number]
    end
  end
  return due
end
