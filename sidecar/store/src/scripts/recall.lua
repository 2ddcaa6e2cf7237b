-- Cuts a partition's lease down to what it uses. KEYS sums; ARGV bucket. Answers the lease that is left, or -1.
local sums = redis.call('HMGET', KEYS[1], 'b:' .. ARGV[1], 'r:' .. ARGV[1], 'l:' .. ARGV[1])
if not sums[3] then return -1 end
local used = tonumber(sums[1] or 0) + tonumber(sums[2] or 0)
if tonumber(sums[3]) <= used then return -1 end
if used == 0 then
  redis.call('HDEL', KEYS[1], 'l:' .. ARGV[1])
else
  redis.call('HSET', KEYS[1], 'l:' .. ARGV[1], string.format('%.0f', used))
end
return used
