-- Gives an object, or a version, other headers: the staged record takes the place of one that is still as it was read.
-- KEYS staged, record, expiry; ARGV 1 first 120 bytes of the record as it was read, 2 end of the object or 0,
-- 3 member of expiry
if redis.call('EXISTS', KEYS[1]) == 0 then return 'MISSING' end
if redis.call('GETRANGE', KEYS[2], 0, 119) ~= ARGV[1] then
  redis.call('UNLINK', KEYS[1])
  return 'CHANGED'
end
-- Access hour, or number of the entry: it may have changed since.
redis.call('SETRANGE', KEYS[1], 124, redis.call('GETRANGE', KEYS[2], 124, 127))
redis.call('RENAME', KEYS[1], KEYS[2])
redis.call('PERSIST', KEYS[2])
if ARGV[2] ~= '0' then redis.call('ZADD', KEYS[3], ARGV[2], ARGV[3]) end
return 'OK'
