-- Sets what a bucket keeps, under a new epoch. KEYS bucket; ARGV 1 field, 2 text
-- Answers with the length of the old text and the epoch before.
if redis.call('EXISTS', KEYS[1]) == 0 or redis.call('HEXISTS', KEYS[1], 'deleting') == 1 then return {'ABSENT'} end
local old, epoch = redis.call('HGET', KEYS[1], ARGV[1]), redis.call('HGET', KEYS[1], 'epoch')
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('HINCRBY', KEYS[1], 'epoch', 1)
return {'OK', old and tostring(#old) or '', epoch}
