-- One batch of rates and slots, decided in order and all at once. Time is in microseconds, as in limits/cells.py, whose
-- arithmetic on rates this is again; the contract tests hold the two together. Numbers stay below 2^53.
--
-- KEYS: the epoch, the answer to this process's last batch, `count` counters, the slots, the leases of processes.
-- ARGV: the id of the epoch with the run id of this server (see epoch.lua), the batch as MessagePack.
-- Answers with MessagePack: what became of it (0 done, 1 another epoch, 2 the clock is ahead), the time, and for each
-- entry {place of the full rate, place of the full slots, how long it is closed, which rates counted it, counters}.

local LEASE, KEPT, MARGIN = 30000000, 604800000, 3600000
local MOST = 9007199254740991
local call = redis.call
local EPOCH, LAST, LEASES = KEYS[1], KEYS[2], KEYS[#KEYS]
local batch = cmsgpack.unpack(ARGV[2])
local number, now, latest, holder, renew, count = batch[1], batch[2], batch[3], batch[4], batch[5], batch[6]
local limits, freed, credits, stood, groups = batch[7], batch[8], batch[9], batch[10], batch[11]

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

-- The counters, each {until, total, slots, packed, changed}; those of a limit have its span and its number of slots.
local cells = {}
for first = 1001, 2 + count, 1000 do
  for _, found in ipairs(call('MGET', unpack(KEYS, first, math.min(first + 999, 2 + count)))) do
    stored[#stored + 1] = found
  end
end

local function fresh(limit)
  local span, slots = limit[1], {}
  if span < 0 then return {now - span, 0, slots} end
  for place = 1, limit[2] do slots[place] = 0 end
  return {now - now % span + span, 0, slots}
end

local function load(place, limit)
  local cell = cells[place]
  if not cell then
    local kept = stored[2 + place]
    if kept then
      local found = cmsgpack.unpack(kept)
      cell = {found[1], found[3], found[4], kept}
    else
      cell = fresh(limit)
    end
    cell.span = limit[1]
    cells[place] = cell
  end
  return cell
end

local function pack(cell)
  if not cell[4] then cell[4] = cmsgpack.pack({cell[1], cell.span, cell[2], cell[3]}) end
  return cell[4]
end

local function roll(cell)
  local span = cell.span
  if now < cell[1] and cell[2] > 0 then return end
  if span < 0 then
    local interval = -span
    if now >= cell[1] then
      local gone = math.min(math.floor((now - cell[1]) / interval) + 1, cell[2])
      cell[2], cell[1] = cell[2] - gone, cell[1] + gone * interval
    end
    if cell[2] == 0 then cell[1] = math.max(cell[1], now + interval) end
  elseif now >= cell[1] then
    local slots, size = cell[3], #cell[3]
    local newest, latest_slot = cell[1] / span, math.floor(now / span) + 1
    if latest_slot - newest >= size then
      for place = 1, size do slots[place] = 0 end
      cell[2] = 0
    else
      for passed = newest + 1, latest_slot do
        local place = passed % size + 1
        cell[2] = cell[2] - slots[place]
        slots[place] = 0
      end
    end
    cell[1] = latest_slot * span
  else
    return
  end
  cell[4] = nil
end

local function add(cell, amount)
  amount = math.min(amount, MOST - cell[2])
  cell[2] = cell[2] + amount
  local size = #cell[3]
  if size > 0 then
    local place = cell[1] / cell.span % size + 1
    cell[3][place] = cell[3][place] + amount
  end
  cell[4], cell.changed = nil, true
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
for place = 1, #freed, 2 do call('HDEL', KEYS[slots_at + freed[place]], freed[place + 1]) end
for place = 1, #stood, 2 do
  call('HSET', KEYS[slots_at + stood[place]], stood[place + 1], holder)
  call('PEXPIRE', KEYS[slots_at + stood[place]], KEPT)
end
if #credits > 0 then
  local function credit(cell, mark, amount)
    local slots, size = cell[3], #cell[3]
    if size > 0 then
      if (cell[1] - mark) / cell.span >= size then return end
      local place = mark / cell.span % size + 1
      amount = math.min(amount, slots[place])
      slots[place] = slots[place] - amount
    elseif mark ~= cell[1] then
      return
    end
    cell[2] = math.max(cell[2] - amount, 0)
    cell[4], cell.changed = nil, true
  end

  for at_one = 1, #credits do
    local one = credits[at_one]
    if stored[2 + one[1]] then credit(load(one[1], limits[one[2]]), one[3], one[4]) end
  end
end

-- An entry is {decision, authorized, observe, rates, slots}; a rate {counter, limit, amount}, a slot {key, cap}.
local function closed(entry)
  local wait = 0
  for _, rate in ipairs(entry[4]) do wait = math.max(wait, lost + limits[rate[2]][3] - now) end
  if #entry[5] > 0 then wait = math.max(wait, lost + LEASE - now) end
  return wait
end

local function array(parts)
  -- A MessagePack array of what is packed already.
  local size = #parts
  local head = size < 16 and string.char(144 + size) or string.char(220, math.floor(size / 256), size % 256)
  return head .. table.concat(parts)
end

local function decide(entry, dry, alone)
  local rates, slots, observe = entry[4], entry[5], entry[3] == 1
  local full, crowd, counted, told = -1, -1, 0, {}
  for place = 1, #rates do
    local rate = rates[place]
    local limit = limits[rate[2]]
    local cell = load(rate[1], limit)
    roll(cell)
    if rate[3] > limit[4] - cell[2] and full < 0 then full = place - 1 end
  end
  if full < 0 and entry[2] == 1 then
    for place = 1, #slots do
      local slot = slots[place]
      if crowd < 0 and not has_room(KEYS[slots_at + slot[1]], slot[2]) then crowd = place - 1 end
    end
  end
  local passes = observe or (entry[2] == 1 and full < 0 and crowd < 0)
  if not (dry and alone) then
    for place = 1, #rates do
      local rate = rates[place]
      local limit, cell = limits[rate[2]], cells[rate[1]]
      if (passes or limit[5] == 0) and (observe or rate[3] <= limit[4] - cell[2]) then
        add(cell, rate[3])
        counted = counted + 2 ^ (place - 1)
      end
    end
    if passes then
      for at_slot = 1, #slots do
        local slot = slots[at_slot]
        local key = KEYS[slots_at + slot[1]]
        if dry then standing[key] = (standing[key] or call('HLEN', key)) + 1 else stand(key, entry[1]) end
      end
    end
  end
  for place = 1, #rates do told[place] = pack(cells[rates[place][1]]) end
  return '\149' .. cmsgpack.pack(full, crowd, 0, counted) .. array(told)
end

local answers = {}
for at_group = 1, #groups do
  local group = groups[at_group]
  local dry, wait = group[1] == 1, 0
  local entries = group[2]
  for at_entry = 1, lost > 0 and #entries or 0 do wait = math.max(wait, closed(entries[at_entry])) end
  local kept, stood_at = cells, standing
  if dry then
    -- What only asks works on copies.
    cells, standing = {}, {}
    for place, cell in pairs(kept) do stored[2 + place] = pack(cell) end
    for key, number_of in pairs(stood_at) do standing[key] = number_of end
  end
  for at_entry = 1, #entries do
    local entry = entries[at_entry]
    local refused = wait > 0 and cmsgpack.pack({-1, -1, wait, 0, {}})
    answers[#answers + 1] = refused or decide(entry, dry, #entries == 1)
  end
  if dry then cells, standing = kept, stood_at end
end

for place, cell in pairs(cells) do
  if cell.changed then
    local gone = cell.span < 0 and cell[1] - (cell[2] - 1) * cell.span or cell[1] + cell.span * (#cell[3] - 1)
    call('SET', KEYS[2 + place], pack(cell), 'PX', math.ceil((gone - now) / 1000) + MARGIN)
  end
end
local answer = '\147' .. cmsgpack.pack(0, now) .. array(answers)
call('SET', LAST, struct.pack('>I8', number) .. answer, 'PX', 60000)
return answer
