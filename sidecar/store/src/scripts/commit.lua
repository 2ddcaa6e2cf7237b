#!lua flags=allow-oom
-- Makes a staged record the object. Every check comes before the first effect.
-- KEYS staged, record, names, sums, journal, pending free[, chunk 0]
-- ARGV 1 journal entry or '', 2 bucket, 3 name, 4 size, 5 epoch, 6 '1' with a quota, 7 reserved bytes,
--      8 'any', 'absent' or the generation that must be there, 9 length of chunk 0
local function refuse(why, detail)
  redis.call('UNLINK', KEYS[1])
  return {why, detail or ''}
end
if redis.call('EXISTS', KEYS[1]) == 0 then return {'MISSING', ''} end
local bucket, size, reserved = ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[7])
local sealed = redis.call('HGET', KEYS[4], 'x:' .. bucket)
if sealed and tonumber(sealed) >= tonumber(ARGV[5]) then return refuse('SEALED') end
if ARGV[1] ~= '' and not redis.call('ZSCORE', KEYS[5], ARGV[1]) then return refuse('SWEPT') end
if KEYS[7] and redis.call('STRLEN', KEYS[7]) ~= tonumber(ARGV[9]) then return refuse('MISSING') end
local head = redis.call('GETRANGE', KEYS[2], 0, 127)
local old = 0
if #head == 128 then old = struct.unpack('<I8', string.sub(head, 25, 32)) end
if ARGV[8] == 'absent' then
  if #head > 0 then return refuse('CHANGED') end
elseif ARGV[8] ~= 'any' and string.sub(head, 9, 24) ~= ARGV[8] then
  return refuse('CHANGED')
end
local sums = redis.call('HMGET', KEYS[4], 'b:' .. bucket, 'r:' .. bucket, 'l:' .. bucket)
if ARGV[6] == '1' and size > old then
  local needed = tonumber(sums[1] or 0) + tonumber(sums[2] or 0) - reserved - old + size
  if needed > tonumber(sums[3] or 0) then return refuse('QUOTA', string.format('%.0f', needed)) end
end
redis.call('RENAME', KEYS[1], KEYS[2])
redis.call('PERSIST', KEYS[2])
if #head == 0 then
  redis.call('ZADD', KEYS[3], 0, ARGV[3])
  redis.call('HINCRBY', KEYS[4], 'o:' .. bucket, 1)
end
redis.call('HINCRBY', KEYS[4], 'b:' .. bucket, string.format('%.0f', size - old))
if ARGV[1] ~= '' then redis.call('ZREM', KEYS[5], ARGV[1]) end
if reserved > 0 and redis.call('HINCRBY', KEYS[4], 'r:' .. bucket, string.format('%.0f', -reserved)) <= 0 then
  redis.call('HDEL', KEYS[4], 'r:' .. bucket)
end
if #head == 128 then
  local chunks, last, manifest = struct.unpack('<I4I4I4', string.sub(head, 101, 112))
  if chunks > 0 then
    local id = string.gsub(string.sub(head, 9, 24), '.', function(c) return string.format('%02x', string.byte(c)) end)
    local now = redis.call('TIME')
    local entry = string.format('%s:%.0f:%.0f:%.0f', id, chunks, last, manifest)
    redis.call('ZADD', KEYS[6], now[1] * 1000 + math.floor(now[2] / 1000), entry)
  end
end
return {'OK', head}
