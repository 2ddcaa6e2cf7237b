-- Closes an open upload and gives its parts to the list of generations to free, some at a time; the last call takes the
-- upload away. KEYS upload, open uploads, journal, sums, pending free
-- ARGV 1 member of open uploads, 2 journal entry, 3 bucket, 4 parts at a time
local function strike()
  redis.call('UNLINK', KEYS[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('ZREM', KEYS[3], ARGV[2])
end
if redis.call('EXISTS', KEYS[1]) == 0 then
  strike()
  return {'ABSENT'}
end
redis.call('HSET', KEYS[1], 'closed', 1)
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local answer, cursor, freed, found = {'MORE'}, '0', 0, 0
repeat
  local page = redis.call('HSCAN', KEYS[1], cursor, 'COUNT', ARGV[4])
  cursor = page[1]
  for i = 1, #page[2], 2 do
    local id, bytes, chunks, last, manifest = string.match(page[2][i + 1], '^(%x+):(%d+):(%d+):(%d+):(%d+)')
    if id and tonumber(page[2][i]) then
      found = found + 1
      freed = freed + tonumber(bytes)
      redis.call('HDEL', KEYS[1], page[2][i])
      if tonumber(chunks) > 0 then
        local entry = table.concat({id, chunks, last, manifest}, ':')
        redis.call('ZADD', KEYS[5], ms, entry)
        answer[#answer + 1] = entry
      end
    end
  end
until cursor == '0' or found > 0
if freed > 0 and redis.call('HINCRBY', KEYS[4], 'r:' .. ARGV[3], string.format('%.0f', -freed)) <= 0 then
  redis.call('HDEL', KEYS[4], 'r:' .. ARGV[3])
end
if cursor == '0' and found == 0 then
  answer[1] = 'OK'
  strike()
end
return answer
