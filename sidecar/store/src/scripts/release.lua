-- Takes an abandoned upload out of the journal, after its chunks are gone.
-- KEYS journal, sums; ARGV 1 entry, 2 bucket, 3 reserved bytes
local gone = redis.call('ZREM', KEYS[1], ARGV[1])
local reserved = tonumber(ARGV[3])
if gone == 1 and reserved > 0 then
  local left = redis.call('HINCRBY', KEYS[2], 'r:' .. ARGV[2], string.format('%.0f', -reserved))
  if left <= 0 then redis.call('HDEL', KEYS[2], 'r:' .. ARGV[2]) end
end
return gone
