-- What the scripts share that change objects of buckets with versions; it follows behind `objects`, and each of them
-- behind it.
-- An object that is current is its record. Every other version, and every delete marker, is a record under a history
-- key, with an entry in the bucket's versions: name, NUL, four bytes that fall with every newer entry, generation. The
-- number of its entry stands where a record has its access hour. The version `null` has a second entry, behind all
-- others of its name: four bytes of 255, then the rest of the first.
local function versioned(head) return flag(head, 8) end
local function place(record)
  local tag, bucket, name = string.match(record, '^o:(%b{}):([^/]+)/(.*)$')
  return {
    record = record, tag = tag, bucket = bucket, name = name, object = bucket .. '/' .. name,
    names = 'x:' .. tag .. ':' .. bucket, versions = 'v:' .. tag .. ':' .. bucket, sums = 's:' .. tag,
    doomed = 'd:' .. tag,
  }
end
local function history(at, id) return 'h:' .. at.tag .. ':' .. hex(id) .. ':' .. at.object end
-- The newest entry of the name, and the entry of its version `null`, without the name.
local function newest(at)
  local found = redis.call('ZRANGEBYLEX', at.versions, '[' .. at.name .. '\0', '(' .. at.name .. '\1', 'LIMIT', 0, 1)[1]
  return found and string.sub(found, #at.name + 1)
end
local function null_entry(at)
  local from = '[' .. at.name .. '\0\255\255\255\255'
  local found = redis.call('ZRANGEBYLEX', at.versions, from, '(' .. at.name .. '\1', 'LIMIT', 0, 1)[1]
  return found and '\0' .. string.sub(found, #at.name + 6)
end
local function head_of(at, entry) return redis.call('GETRANGE', history(at, string.sub(entry, 6, 21)), 0, 127) end
-- A record that lies under its history key already gets its entry, the newest of the name.
local function enter(at, head)
  local top = newest(at)
  local order = top and struct.unpack('>I4', string.sub(top, 2, 5)) or 4294967295
  local entry = '\0' .. struct.pack('>I4', order - 1) .. id_of(head)
  redis.call('SETRANGE', history(at, id_of(head)), 124, struct.pack('<I4', 4294967295 - (order - 1)))
  redis.call('ZADD', at.versions, 0, at.name .. entry)
  if not versioned(head) then
    redis.call('ZADD', at.versions, 0, at.name .. '\0\255\255\255\255' .. string.sub(entry, 2))
  end
  redis.call('HINCRBY', at.sums, 'v:' .. at.bucket, 1)
end
local function leave(at, entry)
  redis.call('ZREM', at.versions, at.name .. entry, at.name .. '\0\255\255\255\255' .. string.sub(entry, 2))
  count(at, 'v:', -1)
end
-- It has an end of its own: that is told under its member.
local function end_later(at, head, member)
  local ends = struct.unpack('<I8', string.sub(head, 49, 56))
  if ends > 0 then redis.call('ZADD', 'e:' .. at.tag, string.format('%.0f', ends), member) end
end
-- What is current is so no longer, and stays.
local function keep(at, head)
  redis.call('RENAME', at.record, history(at, id_of(head)))
  enter(at, head)
  end_later(at, head, at.object .. '\0' .. hex(id_of(head)))
end
-- A version that is not current goes for good.
local function purge(at, entry, head)
  redis.call('UNLINK', history(at, string.sub(entry, 6, 21)))
  leave(at, entry)
  count(at, 'b:', 0 - size_of(head))
  if #head == 128 then doom(at, head) end
end
-- There is no current object: the newest version becomes it, unless it is a delete marker. Answers with its head.
local function promote(at, hour)
  local entry = newest(at)
  local head = entry and head_of(at, entry) or ''
  if #head < 128 or flag(head, 16) then return '' end
  redis.call('RENAME', history(at, id_of(head)), at.record)
  redis.call('SETRANGE', at.record, 124, hour)
  leave(at, entry)
  end_later(at, head, at.object)
  return head
end
local function is_sealed(at, epoch)
  local sealed = epoch ~= '' and redis.call('HGET', at.sums, 'x:' .. at.bucket)
  return sealed and tonumber(sealed) >= tonumber(epoch)
end
