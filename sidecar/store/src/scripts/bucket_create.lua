-- KEYS bucket, names of buckets, sums; ARGV name, quota or ''
if redis.call('EXISTS', KEYS[1]) == 1 then return {'EXISTS'} end
local now = redis.call('TIME')
local time = now[1] * 1000 + math.floor(now[2] / 1000)
-- A clock that was stepped back: the seal of one that was deleted under this name would hold for this one, too.
local sealed = tonumber(redis.call('HGET', KEYS[3], 'x:' .. ARGV[1]) or 0)
local ms, epoch = string.format('%.0f', time), string.format('%.0f', math.max(time, sealed + 1))
redis.call('HSET', KEYS[1], 'created', ms, 'epoch', epoch, 'leased', 0)
if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'quota', ARGV[2]) end
redis.call('ZADD', KEYS[2], 0, ARGV[1])
return {'OK'}
