#!lua flags=allow-oom
-- Writes one shape, measures what it costs, removes it: atomic, so that nobody else's bytes are in the answer.
-- KEYS any key of the slot to use; ARGV 1 tag, 2 form, 3 count, 4 length of value or member, 5 length of names
-- Propagation to replicas and file would cost memory of its own while the script runs, and nothing of it stays.
redis.set_repl(redis.REPL_NONE)
local tag, form, count, len, name_len = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local function name(i)
  local head = 'probe:{' .. tag .. '}:'
  local number = string.format('%d', i)
  return head .. string.rep('0', name_len - #head - #number) .. number
end
local function memory()
  local info = redis.call('INFO', 'memory')
  return tonumber(string.match(info, '\nused_memory:(%d+)')), tonumber(string.match(info, '\nused_memory_overhead:(%d+)'))
end
local value = string.rep('x', len)
local members = {}
if form ~= 'Strings' then
  for i = 1, count do members[i] = string.rep('m', len - 6) .. string.format('%06d', i) end
end
-- An engine without keys leaves its table out of the overhead: one key stands by until the end.
local anchor = 'probe:{' .. tag .. '}'
redis.call('SET', anchor, '1')
local used, overhead = memory()
if form == 'Strings' then
  for i = 1, count do redis.call('SET', name(i), value) end
else
  for i = 1, count do redis.call('ZADD', name(1), 0, members[i]) end
end
local used_after, overhead_after = memory()
if form == 'Strings' then
  for i = 1, count do redis.call('DEL', name(i)) end
else
  -- By members: an engine that frees deleted keys in another thread (Valkey, by default) would still be at it when the
  -- next probe measures.
  redis.call('ZREMRANGEBYRANK', name(1), 0, -1)
end
redis.call('DEL', anchor)
return {used_after - used, overhead_after - overhead}
