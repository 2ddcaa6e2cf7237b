-- Writes the hour of the last read into a record that is still the same. KEYS record; ARGV generation, 4 bytes
if redis.call('GETRANGE', KEYS[1], 8, 23) ~= ARGV[1] then return 0 end
redis.call('SETRANGE', KEYS[1], 124, ARGV[2])
return 1
