-- Strikes a due entry off the list, unless the object got a later end meanwhile. KEYS expiry; ARGV member, now
local due = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not due or tonumber(due) > tonumber(ARGV[2]) then return 0 end
return redis.call('ZREM', KEYS[1], ARGV[1])
