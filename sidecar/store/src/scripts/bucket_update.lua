-- KEYS bucket
-- ARGV 1 'quota' and the quota or ''; 'close': the deletion begins, answers with the epoch to seal;
--      'reopen': it did not come to pass, seals up to now are void
if redis.call('EXISTS', KEYS[1]) == 0 then return {'ABSENT'} end
if ARGV[1] == 'quota' then
  if ARGV[2] == '' then redis.call('HDEL', KEYS[1], 'quota') else redis.call('HSET', KEYS[1], 'quota', ARGV[2]) end
elseif ARGV[1] == 'close' then
  redis.call('HSET', KEYS[1], 'deleting', 1)
else
  redis.call('HDEL', KEYS[1], 'deleting')
  redis.call('HINCRBY', KEYS[1], 'epoch', 1)
end
return {'OK', redis.call('HGET', KEYS[1], 'epoch')}
