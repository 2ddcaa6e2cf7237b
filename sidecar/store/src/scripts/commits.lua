-- What the scripts share that make an object; it follows behind `objects`, or behind `versions` where the bucket keeps
-- some. Of a bucket that keeps nothing nothing of `versions` is called: that text may be left out then.
-- `new` is what comes: its size, the bucket's epoch, '1' with a quota, what must be there ('any', 'absent' or a
-- generation), what the bucket keeps ('off', 'on' or 'suspended'), bytes that were reserved for it.
-- Every check that does not ask how the body came. Answers what is in the way, with a detail; or nothing, and what it
-- found: the head, what of it is replaced and what is kept as a version, the entry and head of the version `null` that
-- has to go.
local function look(at, new)
  local bucket = at.bucket
  local sums = redis.call('HMGET', at.sums, 'b:' .. bucket, 'r:' .. bucket, 'l:' .. bucket, 'x:' .. bucket)
  if new.epoch ~= '' and sums[4] and tonumber(sums[4]) >= tonumber(new.epoch) then return 'SEALED', '' end
  local head = redis.call('GETRANGE', at.record, 0, 127)
  if new.want == 'absent' then
    if #head > 0 then return 'CHANGED', '' end
  elseif new.want ~= 'any' and id_of(head) ~= new.want then
    return 'CHANGED', ''
  end
  local found = {head = head, replaced = head, kept = '', gone = '', counted = sums[1]}
  if new.keeps ~= 'off' then
    if #head == 128 and (new.keeps == 'on' or versioned(head)) then found.replaced, found.kept = '', head end
    if new.keeps == 'suspended' and #found.replaced == 0 then found.null = null_entry(at) end
    if found.null then found.gone = head_of(at, found.null) end
  end
  local old = size_of(found.replaced) + size_of(found.gone)
  if new.quota == '1' and new.size > old then
    local needed = tonumber(sums[1] or 0) + tonumber(sums[2] or 0) - new.reserved - old + new.size
    if needed > tonumber(sums[3] or 0) then return 'QUOTA', string.format('%.0f', needed) end
  end
  return nil, '', found
end
-- What is there makes room.
local function clear(at, found)
  if #found.kept > 0 then keep(at, found.kept) end
  if found.null then purge(at, found.null, found.gone) end
end
-- The record is there: its name, the bucket's sums, and its own end in ms as a string, '0' if it has none.
local function settle(at, new, found, name, ends)
  if #found.head == 0 then
    redis.call('ZADD', at.names, 0, name)
    redis.call('HINCRBY', at.sums, 'o:' .. at.bucket, 1)
  end
  local grown = new.size - size_of(found.replaced)
  if grown ~= 0 or not found.counted then
    redis.call('HINCRBY', at.sums, 'b:' .. at.bucket, string.format('%.0f', grown))
  end
  if ends ~= '0' then redis.call('ZADD', 'e' .. string.sub(at.sums, 2), ends, at.bucket .. '/' .. name) end
end
