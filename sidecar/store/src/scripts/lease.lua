-- Quota for a partition, at the bucket's home: the answer is the partition's whole lease.
-- KEYS bucket; ARGV 1 partition, 2 bytes needed, 3 smallest grant, 4 '1': give back down to the bytes needed
local fields = redis.call('HMGET', KEYS[1], 'quota', 'leased', 'l:' .. ARGV[1])
if not fields[1] then return {'NONE', '0'} end
local quota, leased, have = tonumber(fields[1]), tonumber(fields[2] or 0), tonumber(fields[3] or 0)
local needed = tonumber(ARGV[2])
local grant = 0
if ARGV[4] == '1' then
  grant = math.min(0, needed - have)
elseif needed > have then
  local left = quota - leased
  if needed - have > left then return {'SHORT', string.format('%.0f', have)} end
  grant = math.max(needed - have, math.min(left, math.max(math.floor(left / 64), tonumber(ARGV[3]))))
end
local text = string.format('%.0f', have + grant)
if grant ~= 0 then
  redis.call('HSET', KEYS[1], 'l:' .. ARGV[1], text, 'leased', string.format('%.0f', leased + grant))
end
return {'OK', text}
