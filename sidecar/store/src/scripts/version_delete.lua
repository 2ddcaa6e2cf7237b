-- Removes one version for good. If it was the current one, the newest that is left becomes current.
-- KEYS record; ARGV 1 'null' or the version's generation, 2 epoch, 3 access hour of the one that becomes current,
-- 4 '1': only if it is not the current one
-- Answers with 'current' or 'history', the head of what went, and of what became current.
local at = place(KEYS[1])
if is_sealed(at, ARGV[2]) then return {'SEALED'} end
local function is_meant(head)
  if #head < 128 then return false end
  if ARGV[1] == 'null' then return not versioned(head) end
  return versioned(head) and id_of(head) == ARGV[1]
end
local head = redis.call('GETRANGE', KEYS[1], 0, 127)
if is_meant(head) then
  if ARGV[4] == '1' then return {'CHANGED'} end
  redis.call('UNLINK', KEYS[1])
  count(at, 'b:', 0 - size_of(head))
  doom(at, head)
  local next = promote(at, ARGV[3])
  if #next == 0 then
    redis.call('ZREM', at.names, at.name)
    count(at, 'o:', -1)
  end
  return {'OK', 'current', head, next}
end
local entry
if ARGV[1] == 'null' then
  entry = null_entry(at)
else
  local number = redis.call('GETRANGE', history(at, ARGV[1]), 124, 127)
  if #number == 4 then entry = '\0' .. struct.pack('>I4', 4294967295 - struct.unpack('<I4', number)) .. ARGV[1] end
end
local old = entry and head_of(at, entry) or ''
if not is_meant(old) then return {'ABSENT'} end
local on_top = #head == 0 and newest(at) == entry
purge(at, entry, old)
local next = on_top and promote(at, ARGV[3]) or ''
if #next > 0 then
  redis.call('ZADD', at.names, 0, at.name)
  redis.call('HINCRBY', at.sums, 'o:' .. at.bucket, 1)
end
return {'OK', 'history', old, next}
