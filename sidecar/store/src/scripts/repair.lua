-- Writes a chunk back, if the object is still the one that has it. KEYS record, chunk; ARGV generation, bytes
if redis.call('GETRANGE', KEYS[1], 8, 23) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
return 1
