-- A deletion in a bucket that keeps versions: a delete marker comes on top of what is current.
-- KEYS record; ARGV 1 'any' or the generation that must be there, 2 epoch, 3 'on' or 'suspended', 4 the marker's head
-- Answers like the commit.
local at = place(KEYS[1])
if is_sealed(at, ARGV[2]) then return {'SEALED'} end
local head = redis.call('GETRANGE', KEYS[1], 0, 127)
if ARGV[1] ~= 'any' and id_of(head) ~= ARGV[1] then return {'CHANGED'} end
local replaced, kept, null = head, '', nil
if #head == 128 and (ARGV[3] == 'on' or versioned(head)) then replaced, kept = '', head end
if ARGV[3] == 'suspended' and #replaced == 0 then null = null_entry(at) end
local gone = null and head_of(at, null) or ''
if #kept > 0 then keep(at, kept) end
if null then purge(at, null, gone) end
if #replaced > 0 then
  redis.call('UNLINK', KEYS[1])
  if #replaced == 128 then
    count(at, 'b:', 0 - size_of(replaced))
    doom(at, replaced)
  end
end
if #head > 0 then
  redis.call('ZREM', at.names, at.name)
  count(at, 'o:', -1)
end
redis.call('SET', history(at, id_of(ARGV[4])), ARGV[4])
enter(at, ARGV[4])
return {'OK', replaced, kept, gone}
