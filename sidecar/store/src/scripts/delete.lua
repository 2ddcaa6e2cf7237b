#!lua flags=allow-oom
-- Deletes an object: record, name, sums; its chunks go to the list of generations to free.
-- KEYS record, names, sums, pending free
-- ARGV 1 bucket, 2 name, 3 'any' or the generation that must be there
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
local head = redis.call('GETRANGE', KEYS[1], 0, 127)
if #head == 0 then return {'ABSENT', ''} end
if ARGV[3] ~= 'any' and string.sub(head, 9, 24) ~= ARGV[3] then return {'CHANGED', ''} end
local bucket = ARGV[1]
redis.call('UNLINK', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[2])
if redis.call('HINCRBY', KEYS[3], 'o:' .. bucket, -1) <= 0 then redis.call('HDEL', KEYS[3], 'o:' .. bucket) end
if #head == 128 then
  local size = struct.unpack('<I8', string.sub(head, 25, 32))
  redis.call('HINCRBY', KEYS[3], 'b:' .. bucket, string.format('%.0f', 0 - size))
  doom(head)
end
if redis.call('HGET', KEYS[3], 'o:' .. bucket) == false then redis.call('HDEL', KEYS[3], 'b:' .. bucket) end
return {'OK', head}
