-- Enters an upload into the journal, or renews its entry, and reserves quota.
-- KEYS journal, sums, record
-- ARGV 1 entry so far or '', 2 entry up to the reserved bytes, 3 entry behind them, 4 ttl ms, 5 bucket, 6 epoch,
--      7 bytes wanted in all, 8 '1' with a quota, 9 bytes reserved so far, 10 bytes that a part replaces or '': those of
--      the record
local sealed = redis.call('HGET', KEYS[2], 'x:' .. ARGV[5])
if sealed and tonumber(sealed) >= tonumber(ARGV[6]) then return {'SEALED'} end
if ARGV[1] ~= '' and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return {'SWEPT'} end
local have = tonumber(ARGV[9])
local reserved = have
if ARGV[8] == '1' then
  local old = tonumber(ARGV[10] or '')
  if not old then
    local size = redis.call('GETRANGE', KEYS[3], 24, 31)
    old = #size == 8 and struct.unpack('<I8', size) or 0
  end
  reserved = math.max(have, tonumber(ARGV[7]) - old)
  if reserved > have then
    local sums = redis.call('HMGET', KEYS[2], 'b:' .. ARGV[5], 'r:' .. ARGV[5], 'l:' .. ARGV[5])
    local needed = tonumber(sums[1] or 0) + tonumber(sums[2] or 0) + reserved - have
    if needed > tonumber(sums[3] or 0) then return {'QUOTA', string.format('%.0f', needed)} end
    redis.call('HINCRBY', KEYS[2], 'r:' .. ARGV[5], string.format('%.0f', reserved - have))
  end
end
local now = redis.call('TIME')
local deadline = now[1] * 1000 + math.floor(now[2] / 1000) + tonumber(ARGV[4])
if ARGV[1] ~= '' then redis.call('ZREM', KEYS[1], ARGV[1]) end
local text = string.format('%.0f', reserved)
redis.call('ZADD', KEYS[1], string.format('%.0f', deadline), ARGV[2] .. text .. ARGV[3])
return {'OK', text}
