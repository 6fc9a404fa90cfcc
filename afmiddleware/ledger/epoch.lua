-- Which life of the shared counters this is: asked for on every new connection, before anything is counted on it.
--
-- KEYS: the epoch: `id:run:lost`, its id, the run id of the server it lives on, and when counters may have been lost (0
-- for never). ARGV: the run id of this server, the id that is known (empty for none), an id for a new epoch, whether
-- counters are known to be lost, and the time in a test. Answers with the id of the epoch.

local run, known, id, told, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])

if redis.replicate_commands then redis.replicate_commands() end
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
now = string.format('%.0f', now)

local epoch = redis.call('GET', KEYS[1])
if not epoch then
  -- Somebody who knows of an epoch has counted here before: those counters are gone.
  redis.call('SET', KEYS[1], id .. ':' .. run .. ':' .. ((known == '' and told == '0') and '0' or now))
  return id
end
-- A server that was started anew, or took over from another, may have forgotten the last that it was told.
local its_id, its_run, lost = epoch:match('^(%w*):(%w*):(%d+)$')
local begun_elsewhere = known ~= '' and known ~= its_id and lost == '0'
if its_run ~= run or begun_elsewhere or told == '1' then
  redis.call('SET', KEYS[1], its_id .. ':' .. run .. ':' .. now)
end
return its_id
