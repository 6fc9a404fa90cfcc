-- One batch of rates and slots, decided in order and all at once. Time is in microseconds, as in limits/cells.py, whose
-- arithmetic on rates this is again; the contract tests hold the two together. Numbers stay below 2^53.
--
-- KEYS: the epoch, the answer to this process's last batch, `count` counters, the slots, the leases of processes.
-- ARGV: the id of the epoch with the run id of this server (see epoch.lua), the batch as MessagePack: one flat array,
-- because a table for every part of it would cost more than the counting. After six values on this process come, each
-- after their number, limits {span, sub-windows, for how long what was lost may count, cap, what it counts (1 what is
-- admitted only, 2 a block of addresses, 3 both), kept for in milliseconds}, slots that are freed, slots that stand,
-- credits, and groups {dry, entries}. An entry is {decision, authorized, observe, rates, slots}; a rate {counter, where
-- its limit stands in the batch, amount}, a slot {key, cap}.
-- Answers with MessagePack: what became of it (0 done, 1 another epoch, 2 the clock is ahead), the time, and for each
-- entry {place of the full rate, place of the full slots, how long it is closed, which rates counted it, counters}.

local LEASE, KEPT = 30000000, '604800000'
local MOST = 9007199254740991
local call = redis.call
local EPOCH, LAST, LEASES = KEYS[1], KEYS[2], KEYS[#KEYS]
local batch = cmsgpack.unpack(ARGV[2])
local number, now, latest, holder, renew, count = batch[1], batch[2], batch[3], batch[4], batch[5], batch[6]
local at = 8 + 6 * batch[7]

if redis.replicate_commands then redis.replicate_commands() end
if now == 0 then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end

-- Everything stored is read at once: the epoch, the last answer, and the counters.
local stored = call('MGET', unpack(KEYS, 1, math.min(2 + count, 1000)))
local epoch, last = stored[1], stored[2]
if not epoch or epoch:sub(1, #ARGV[1]) ~= ARGV[1] then
  return cmsgpack.pack({1, now, {}})
end
if latest > 0 and now > latest then
  return cmsgpack.pack({2, now, {}})
end
-- Answers are lost on their way, and batches may come late, after what was asked because of it. None is counted twice.
if last then
  local before, at = struct.unpack('>I8', last)
  if before == number then return last:sub(at) end
  if before > number then return cmsgpack.pack({1, now, {}}) end
end
local lost = tonumber(epoch:sub(#ARGV[1] + 1))
if lost > now then
  lost = now
  call('SET', EPOCH, ARGV[1] .. string.format('%.0f', now))
end

-- The counters, each {until, span, total, slots, packed, kept for, changed} with the span of its limit.
local cells = {}
for first = 1001, 2 + count, 1000 do
  for _, found in ipairs(call('MGET', unpack(KEYS, first, math.min(first + 999, 2 + count)))) do
    stored[#stored + 1] = found
  end
end

local function fresh(limit)
  local span, slots = batch[limit], {}
  if span < 0 then return {now - span, span, 0, slots} end
  for place = 1, batch[limit + 1] do slots[place] = 0 end
  return {now - now % span + span, span, 0, slots}
end

local function load(place, limit)
  local cell = cells[place]
  if not cell then
    local kept = stored[2 + place]
    if kept then
      cell = cmsgpack.unpack(kept)
      cell[2], cell[5] = batch[limit], kept
    else
      cell = fresh(limit)
      cell[5] = false
    end
    cell[6] = batch[limit + 5]
    cells[place] = cell
  end
  return cell
end

local function head(size)
  -- How a MessagePack array of what is packed already begins.
  return size < 16 and string.char(144 + size) or string.char(220, math.floor(size / 256), size % 256)
end

local function pack(cell)
  if not cell[5] then
    local slots = cell[4]
    local told = '\148' .. cmsgpack.pack(cell[1], cell[2], cell[3]) .. head(#slots)
    cell[5] = #slots > 0 and told .. cmsgpack.pack(unpack(slots)) or told
  end
  return cell[5]
end

local function roll(cell)
  local span = cell[2]
  if now < cell[1] and cell[3] > 0 then return end
  if span < 0 then
    local interval = -span
    if now >= cell[1] then
      local gone = math.min(math.floor((now - cell[1]) / interval) + 1, cell[3])
      cell[3], cell[1] = cell[3] - gone, cell[1] + gone * interval
    end
    if cell[3] == 0 then cell[1] = math.max(cell[1], now + interval) end
  elseif now >= cell[1] then
    local slots, size = cell[4], #cell[4]
    local newest, latest_slot = cell[1] / span, math.floor(now / span) + 1
    if latest_slot - newest >= size then
      for place = 1, size do slots[place] = 0 end
      cell[3] = 0
    else
      for passed = newest + 1, latest_slot do
        local place = passed % size + 1
        cell[3] = cell[3] - slots[place]
        slots[place] = 0
      end
    end
    cell[1] = latest_slot * span
  else
    return
  end
  cell[5] = false
end

local function add(cell, amount)
  amount = math.min(amount, MOST - cell[3])
  cell[3] = cell[3] + amount
  local size = #cell[4]
  if size > 0 then
    local place = cell[1] / cell[2] % size + 1
    cell[4][place] = cell[4][place] + amount
  end
  cell[5], cell[7] = false, true
end

-- Slots: a hash for each limit and key, of the decisions that run and the processes that run them.
local slots_at, standing, has_room, stand = 2 + count, {}, nil, nil
if #KEYS > slots_at + 1 then
  local leases, cleared = nil, {}

  local function lives(name)
    if not leases then
      leases = {}
      local found = call('HGETALL', LEASES)
      for place = 1, #found, 2 do leases[found[place]] = tonumber(found[place + 1]) end
    end
    return (leases[name] or 0) > now
  end

  local function clear(key)
    local found = call('HGETALL', key)
    for place = 1, #found, 2 do
      if not lives(found[place + 1]) then call('HDEL', key, found[place]) end
    end
    cleared[key] = true
    standing[key] = call('HLEN', key)
  end

  function has_room(key, cap)
    standing[key] = standing[key] or call('HLEN', key)
    -- Only what looks full is looked through for processes that are gone.
    if standing[key] >= cap and not cleared[key] then clear(key) end
    return standing[key] < cap
  end

  function stand(key, decision)
    local before = standing[key] or call('HLEN', key)
    call('HSET', key, decision, holder)
    if renew == 1 or before == 0 then call('PEXPIRE', key, KEPT) end
    standing[key] = before + 1
  end
end

if renew == 1 then call('HSET', LEASES, holder, string.format('%.0f', now + LEASE)) end
for place = at + 1, at + 2 * batch[at], 2 do call('HDEL', KEYS[slots_at + batch[place]], batch[place + 1]) end
at = at + 1 + 2 * batch[at]
for place = at + 1, at + 2 * batch[at], 2 do
  local key = KEYS[slots_at + batch[place]]
  call('HSET', key, batch[place + 1], holder)
  call('PEXPIRE', key, KEPT)
end
at = at + 1 + 2 * batch[at]
if batch[at] > 0 then
  local function credit(cell, mark, amount)
    local slots, size = cell[4], #cell[4]
    if size > 0 then
      if (cell[1] - mark) / cell[2] >= size then return end
      local place = mark / cell[2] % size + 1
      amount = math.min(amount, slots[place])
      slots[place] = slots[place] - amount
    elseif mark ~= cell[1] then
      return
    end
    cell[3] = math.max(cell[3] - amount, 0)
    cell[5], cell[7] = false, true
  end

  for place = at + 1, at + 4 * batch[at], 4 do
    local counter = batch[place]
    if stored[2 + counter] then credit(load(counter, batch[place + 1]), batch[place + 2], batch[place + 3]) end
  end
end
at = at + 1 + 4 * batch[at]

-- Where the rates and the slots of the entry at a place end.
local function ends(entry)
  local rates = entry + 3 + 3 * batch[entry + 3]
  return rates, rates + 1 + 2 * batch[rates + 1]
end

local function closed(entry)
  local wait, rates, slots = 0, ends(entry)
  for place = entry + 4, rates, 3 do wait = math.max(wait, lost + batch[batch[place + 1] + 2] - now) end
  if slots > rates + 1 then wait = math.max(wait, lost + LEASE - now) end
  return wait, slots + 1
end

local function decide(entry, dry, alone)
  local authorized, observe = batch[entry + 1] == 1, batch[entry + 2] == 1
  local rates, slots = ends(entry)
  local full, crowd, counted, told = -1, -1, 0, {}
  for place = entry + 4, rates, 3 do
    local limit = batch[place + 1]
    local cell = load(batch[place], limit)
    roll(cell)
    if full < 0 and batch[place + 2] > batch[limit + 3] - cell[3] then full = (place - entry - 4) / 3 end
  end
  if full < 0 and authorized then
    for place = rates + 2, slots, 2 do
      if crowd < 0 and not has_room(KEYS[slots_at + batch[place]], batch[place + 1]) then
        crowd = (place - rates - 2) / 2
      end
    end
  end
  local passes = observe or (authorized and full < 0 and crowd < 0)
  if not (dry and alone) then
    local bit = 1
    for place = entry + 4, rates, 3 do
      local limit, amount, cell = batch[place + 1], batch[place + 2], cells[batch[place]]
      local counts = batch[limit + 4]
      local fits = amount <= batch[limit + 3] - cell[3] and (full < 0 or counts < 2)
      if (passes or counts % 2 == 0) and (observe or fits) then
        add(cell, amount)
        counted = counted + bit
      end
      bit = bit * 2
    end
    if passes then
      for place = rates + 2, slots, 2 do
        local key = KEYS[slots_at + batch[place]]
        if dry then standing[key] = (standing[key] or call('HLEN', key)) + 1 else stand(key, batch[entry]) end
      end
    end
  end
  for place = entry + 4, rates, 3 do told[#told + 1] = pack(cells[batch[place]]) end
  return '\149' .. cmsgpack.pack(full, crowd, 0, counted) .. head(#told) .. table.concat(told), slots + 1
end

local answers = {}
local groups = batch[at]
at = at + 1
for _ = 1, groups do
  local dry, entries = batch[at] == 1, batch[at + 1]
  local wait, after = 0, at + 2
  if lost > 0 then
    for _ = 1, entries do
      local its
      its, after = closed(after)
      wait = math.max(wait, its)
    end
  end
  local kept, stood_at = cells, standing
  if dry then
    -- What only asks works on copies.
    cells, standing = {}, {}
    for place, cell in pairs(kept) do stored[2 + place] = pack(cell) end
    for key, number_of in pairs(stood_at) do standing[key] = number_of end
  end
  at = at + 2
  for _ = 1, entries do
    local answer
    if wait > 0 then
      local _, slots = ends(at)
      answer, at = cmsgpack.pack({-1, -1, wait, 0, {}}), slots + 1
    else
      answer, at = decide(at, dry, entries == 1)
    end
    answers[#answers + 1] = answer
  end
  if dry then cells, standing = kept, stood_at end
end

for place, cell in pairs(cells) do
  if cell[7] then call('SET', KEYS[2 + place], pack(cell), 'PX', cell[6]) end
end
local answer = '\147' .. cmsgpack.pack(0, now) .. head(#answers) .. table.concat(answers)
call('SET', LAST, struct.pack('>I8', number) .. answer, 'PX', '60000')
return answer
