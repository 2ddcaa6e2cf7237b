-- Gives an object another body with the same bytes: the staged record takes the place of one that is still as it was
-- read. Sums and names stay as they are. KEYS staged, record, journal, pending free
-- ARGV 1 first 120 bytes of the record as it was read, 2 journal entry
if redis.call('EXISTS', KEYS[1]) == 0 then return {'MISSING', ''} end
local head = redis.call('GETRANGE', KEYS[2], 0, 127)
if string.sub(head, 1, 120) ~= ARGV[1] then
  redis.call('UNLINK', KEYS[1])
  return {'CHANGED', ''}
end
if redis.call('ZREM', KEYS[3], ARGV[2]) == 0 then
  redis.call('UNLINK', KEYS[1])
  return {'SWEPT', ''}
end
redis.call('RENAME', KEYS[1], KEYS[2])
redis.call('PERSIST', KEYS[2])
redis.call('SETRANGE', KEYS[2], 124, string.sub(head, 125, 128))
doom({doomed = KEYS[4]}, head)
return {'OK', head}
