-- Opens a multipart upload. KEYS upload, open uploads, journal, sums
-- ARGV 1 what it is, 2 member of open uploads, 3 journal entry, 4 ttl ms, 5 bucket, 6 epoch
local sealed = redis.call('HGET', KEYS[4], 'x:' .. ARGV[5])
if sealed and tonumber(sealed) >= tonumber(ARGV[6]) then return {'SEALED'} end
local now = redis.call('TIME')
redis.call('HSET', KEYS[1], 'meta', ARGV[1])
redis.call('ZADD', KEYS[2], 0, ARGV[2])
redis.call('ZADD', KEYS[3], string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000) + tonumber(ARGV[4])), ARGV[3])
return {'OK'}
