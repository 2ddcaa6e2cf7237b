-- What the scripts share that change objects; each of them follows behind this text. `at` is where the object lives:
-- its record, bucket, sums, list of generations to free.
local function clock()
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end
local function hex(id)
  local digits = '%02x%02x%02x%02x%02x%02x%02x%02x%02x%02x%02x%02x%02x%02x%02x%02x'
  return string.format(digits, string.byte(id, 1, 16))
end
local function flag(head, bit) return math.floor(struct.unpack('<I4', string.sub(head, 5, 8)) / bit) % 2 == 1 end
local function id_of(head) return string.sub(head, 9, 24) end
local function size_of(head) return #head == 128 and struct.unpack('<I8', string.sub(head, 25, 32)) or 0 end
local function count(at, what, by)
  if redis.call('HINCRBY', at.sums, what .. at.bucket, string.format('%.0f', by)) <= 0 then
    redis.call('HDEL', at.sums, what .. at.bucket)
  end
end
-- Its chunks go to the list of generations to free.
local function doom(at, head)
  local chunks, last, manifest = struct.unpack('<I4I4I4', string.sub(head, 101, 112))
  if chunks == 0 then return end
  local entry = string.format('%s:%.0f:%.0f:%.0f', hex(id_of(head)), chunks, last, manifest)
  if flag(head, 4) then entry = entry .. string.format(':%.0f', size_of(head)) end
  redis.call('ZADD', at.doomed, clock(), entry)
end
-- `unread` is '1' if nobody reads it: then a body of one chunk goes here and now, any other goes by the list. Answers '1'
-- if it has gone.
local function release(at, head, unread)
  local chunks, _, manifest = struct.unpack('<I4I4I4', string.sub(head, 101, 112))
  if unread ~= '1' or chunks ~= 1 or manifest >= 2147483648 or flag(head, 4) then
    doom(at, head)
    return ''
  end
  local body = string.sub(at.sums, 2) .. ':' .. hex(id_of(head))
  redis.call('UNLINK', 'c' .. body .. ':0', 'k' .. body)
  return '1'
end
