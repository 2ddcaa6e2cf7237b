-- Refuses writes into the bucket under this epoch and older ones. KEYS sums, names, versions; ARGV bucket, epoch
local sealed = redis.call('HGET', KEYS[1], 'x:' .. ARGV[1])
if not sealed or tonumber(sealed) < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], 'x:' .. ARGV[1], ARGV[2])
end
return redis.call('ZCARD', KEYS[2]) + redis.call('ZCARD', KEYS[3])
