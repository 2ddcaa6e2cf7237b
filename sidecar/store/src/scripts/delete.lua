-- Deletes an object of a bucket without versions: record, name, sums; its chunks go to the list of generations to free.
-- KEYS record; ARGV 1 'any' or the generation that must be there, 2 epoch, 3 '1' if nobody reads the object
-- Answers with the head of what was there, and '1' if its body is gone already.
local at = place(KEYS[1])
if is_sealed(at, ARGV[2]) then return {'SEALED', '', ''} end
local head = redis.call('GETRANGE', KEYS[1], 0, 127)
if #head == 0 then return {'ABSENT', '', ''} end
if ARGV[1] ~= 'any' and id_of(head) ~= ARGV[1] then return {'CHANGED', '', ''} end
local freed = ''
redis.call('UNLINK', KEYS[1])
redis.call('ZREM', at.names, at.name)
count(at, 'o:', -1)
if #head == 128 then
  redis.call('HINCRBY', at.sums, 'b:' .. at.bucket, string.format('%.0f', 0 - size_of(head)))
  freed = release(at, head, ARGV[3])
end
if redis.call('HEXISTS', at.sums, 'o:' .. at.bucket) == 0 then redis.call('HDEL', at.sums, 'b:' .. at.bucket) end
return {'OK', head, freed}
