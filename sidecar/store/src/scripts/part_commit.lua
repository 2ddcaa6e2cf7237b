-- Makes a stored body a part of an open upload; the part of this number that was there goes to the list of generations
-- to free. Bytes of parts count as reserved until the upload is completed.
-- KEYS upload, journal, sums, pending free
-- ARGV 1 journal entry, 2 number, 3 the part, 4 size, 5 reserved bytes, 6 bucket, 7 epoch, 8 '1' with a quota,
--      9 journal entry of the upload, 10 ttl ms
local bucket, size, reserved = ARGV[6], tonumber(ARGV[4]), tonumber(ARGV[5])
local sealed = redis.call('HGET', KEYS[3], 'x:' .. bucket)
if sealed and tonumber(sealed) >= tonumber(ARGV[7]) then return {'SEALED', ''} end
local state = redis.call('HMGET', KEYS[1], 'meta', 'closed', ARGV[2])
if not state[1] or state[2] then return {'CLOSED', ''} end
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) then return {'SWEPT', ''} end
local old, old_size = state[3] or '', 0
local id, bytes, chunks, last, manifest = string.match(old, '^(%x+):(%d+):(%d+):(%d+):(%d+)')
if id then old_size = tonumber(bytes) end
if ARGV[8] == '1' then
  local sums = redis.call('HMGET', KEYS[3], 'b:' .. bucket, 'r:' .. bucket, 'l:' .. bucket)
  local needed = tonumber(sums[1] or 0) + tonumber(sums[2] or 0) - reserved - old_size + size
  if needed > tonumber(sums[3] or 0) then return {'QUOTA', string.format('%.0f', needed)} end
end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
redis.call('HINCRBY', KEYS[1], 'rev', 1)
redis.call('HINCRBY', KEYS[1], 'bytes', string.format('%.0f', size - old_size))
redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('HINCRBY', KEYS[3], 'r:' .. bucket, string.format('%.0f', size - old_size - reserved)) <= 0 then
  redis.call('HDEL', KEYS[3], 'r:' .. bucket)
end
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
if id then
  if tonumber(chunks) > 0 then
    redis.call('ZADD', KEYS[4], ms, table.concat({id, chunks, last, manifest}, ':'))
  end
else
  redis.call('HINCRBY', KEYS[1], 'parts', 1)
end
redis.call('ZADD', KEYS[2], 'XX', string.format('%.0f', ms + tonumber(ARGV[10])), ARGV[9])
return {'OK', old}
