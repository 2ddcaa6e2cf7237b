#!lua flags=allow-oom
-- Gives an object another body with the same bytes: the staged record takes the place of one that is still as it was
-- read. Sums and names stay as they are. KEYS staged, record, journal, pending free
-- ARGV 1 first 120 bytes of the record as it was read, 2 journal entry
local function doom(head)
  local flags = struct.unpack('<I4', string.sub(head, 5, 8))
  local size = struct.unpack('<I8', string.sub(head, 25, 32))
  local chunks, last, manifest = struct.unpack('<I4I4I4', string.sub(head, 101, 112))
  if chunks == 0 then return end
  local id = string.gsub(string.sub(head, 9, 24), '.', function(c) return string.format('%02x', string.byte(c)) end)
  local entry = string.format('%s:%.0f:%.0f:%.0f', id, chunks, last, manifest)
  if math.floor(flags / 4) % 2 == 1 then entry = entry .. string.format(':%.0f', size) end
  local now = redis.call('TIME')
  redis.call('ZADD', KEYS[4], now[1] * 1000 + math.floor(now[2] / 1000), entry)
end
if redis.call('EXISTS', KEYS[1]) == 0 then return {'MISSING', ''} end
local head = redis.call('GETRANGE', KEYS[2], 0, 127)
if string.sub(head, 1, 120) ~= ARGV[1] then
  redis.call('UNLINK', KEYS[1])
  return {'CHANGED', ''}
end
if redis.call('ZREM', KEYS[3], ARGV[2]) == 0 then
  redis.call('UNLINK', KEYS[1])
  return {'SWEPT', ''}
end
redis.call('RENAME', KEYS[1], KEYS[2])
redis.call('PERSIST', KEYS[2])
redis.call('SETRANGE', KEYS[2], 124, string.sub(head, 125, 128))
doom(head)
return {'OK', head}
