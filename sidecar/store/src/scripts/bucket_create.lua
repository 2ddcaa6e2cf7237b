#!lua
-- KEYS bucket, names of buckets; ARGV name, quota or ''
if redis.call('EXISTS', KEYS[1]) == 1 then return {'EXISTS'} end
local now = redis.call('TIME')
local ms = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
redis.call('HSET', KEYS[1], 'created', ms, 'epoch', ms, 'leased', 0)
if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'quota', ARGV[2]) end
redis.call('ZADD', KEYS[2], 0, ARGV[1])
return {'OK'}
