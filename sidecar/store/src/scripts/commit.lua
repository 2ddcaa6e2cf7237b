#!lua flags=allow-oom
-- Makes a staged record the object. Every check comes before the first effect.
-- KEYS staged, record, names, sums, journal, pending free[, chunk 0 | multipart upload, open uploads]
-- ARGV 1 journal entry or '', 2 bucket, 3 name, 4 size, 5 epoch, 6 '1' with a quota, 7 reserved bytes,
--      8 'any', 'absent' or the generation that must be there, 9 length of chunk 0,
--      [10 revision of the multipart upload, 11 member of open uploads, 12... entries of parts left out]
local function doom(head)
  local flags = struct.unpack('<I4', string.sub(head, 5, 8))
  local size = struct.unpack('<I8', string.sub(head, 25, 32))
  local chunks, last, manifest = struct.unpack('<I4I4I4', string.sub(head, 101, 112))
  if chunks == 0 then return end
  local id = string.gsub(string.sub(head, 9, 24), '.', function(c) return string.format('%02x', string.byte(c)) end)
  local entry = string.format('%s:%.0f:%.0f:%.0f', id, chunks, last, manifest)
  if math.floor(flags / 4) % 2 == 1 then entry = entry .. string.format(':%.0f', size) end
  local now = redis.call('TIME')
  redis.call('ZADD', KEYS[6], now[1] * 1000 + math.floor(now[2] / 1000), entry)
end
local function refuse(why, detail)
  redis.call('UNLINK', KEYS[1])
  return {why, detail or ''}
end
if redis.call('EXISTS', KEYS[1]) == 0 then return {'MISSING', ''} end
local bucket, size, reserved = ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[7])
local sealed = redis.call('HGET', KEYS[4], 'x:' .. bucket)
if sealed and tonumber(sealed) >= tonumber(ARGV[5]) then return refuse('SEALED') end
if ARGV[1] ~= '' and not redis.call('ZSCORE', KEYS[5], ARGV[1]) then return refuse('SWEPT') end
local parts = ARGV[10]
if parts then
  local state = redis.call('HMGET', KEYS[7], 'meta', 'closed', 'rev', 'bytes')
  if not state[1] or state[2] then return refuse('SWEPT') end
  if (state[3] or '0') ~= parts then return refuse('PARTS') end
  reserved = tonumber(state[4] or 0)
elseif KEYS[7] and redis.call('STRLEN', KEYS[7]) ~= tonumber(ARGV[9]) then
  return refuse('MISSING')
end
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
local ends = struct.unpack('<I8', redis.call('GETRANGE', KEYS[1], 48, 55))
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
if #head == 128 then doom(head) end
if ends > 0 then
  redis.call('ZADD', 'e' .. string.sub(KEYS[6], 2), string.format('%.0f', ends), bucket .. '/' .. ARGV[3])
end
if parts then
  redis.call('UNLINK', KEYS[7])
  redis.call('ZREM', KEYS[8], ARGV[11])
  local now = redis.call('TIME')
  for i = 12, #ARGV do redis.call('ZADD', KEYS[6], now[1] * 1000 + math.floor(now[2] / 1000), ARGV[i]) end
end
return {'OK', head}
