-- Makes a staged record the object. Every check comes before the first effect.
-- KEYS staged, record, names, sums, journal, pending free[, chunk 0, manifest | multipart upload, open uploads]
-- ARGV 1 journal entry or '', 2 bucket, 3 name, 4 size, 5 epoch, 6 '1' with a quota, 7 reserved bytes,
--      8 'any', 'absent' or the generation that must be there, 9 length of chunk 0, 10 'off', 'on' or 'suspended': what
--      the bucket keeps, [11 revision of the multipart upload, 12 member of open uploads, 13... entries of parts left out]
-- Answers with the heads of what was replaced, of what is kept as a version, and of the version `null` that went.
-- Where the bucket keeps nothing, nothing of `versions` is called: that text may be left out then.
local bucket, size, reserved, keeps, parts = ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[7]), ARGV[10], ARGV[11]
local function refuse(why, detail)
  -- A chunk of its own came in the same breath and would end by itself; what belongs to a multipart upload stays.
  if KEYS[7] and not parts then redis.call('UNLINK', KEYS[1], KEYS[7], KEYS[8]) else redis.call('UNLINK', KEYS[1]) end
  return {why, detail or ''}
end
local ends = redis.call('GETRANGE', KEYS[1], 0, 127)
if #ends == 0 then return refuse('MISSING') end
local sums = redis.call('HMGET', KEYS[4], 'b:' .. bucket, 'r:' .. bucket, 'l:' .. bucket, 'x:' .. bucket)
if ARGV[5] ~= '' and sums[4] and tonumber(sums[4]) >= tonumber(ARGV[5]) then return refuse('SEALED') end
if ARGV[1] ~= '' and not redis.call('ZSCORE', KEYS[5], ARGV[1]) then return refuse('SWEPT') end
if parts then
  local state = redis.call('HMGET', KEYS[7], 'meta', 'closed', 'rev', 'bytes')
  if not state[1] or state[2] then return refuse('SWEPT') end
  if (state[3] or '0') ~= parts then return refuse('PARTS') end
  reserved = tonumber(state[4] or 0)
elseif KEYS[7] and (redis.call('STRLEN', KEYS[7]) ~= tonumber(ARGV[9]) or redis.call('EXISTS', KEYS[8]) == 0) then
  return refuse('MISSING')
end
local head = redis.call('GETRANGE', KEYS[2], 0, 127)
if ARGV[8] == 'absent' then
  if #head > 0 then return refuse('CHANGED') end
elseif ARGV[8] ~= 'any' and id_of(head) ~= ARGV[8] then
  return refuse('CHANGED')
end
local replaced, kept, null, at = head, '', nil, nil
if keeps == 'off' then
  at = {record = KEYS[2], bucket = bucket, sums = KEYS[4], doomed = KEYS[6]}
else
  at = place(KEYS[2])
  if #head == 128 and (keeps == 'on' or versioned(head)) then replaced, kept = '', head end
  if keeps == 'suspended' and #replaced == 0 then null = null_entry(at) end
end
local gone = null and head_of(at, null) or ''
local old = size_of(replaced) + size_of(gone)
if ARGV[6] == '1' and size > old then
  local needed = tonumber(sums[1] or 0) + tonumber(sums[2] or 0) - reserved - old + size
  if needed > tonumber(sums[3] or 0) then return refuse('QUOTA', string.format('%.0f', needed)) end
end
if #kept > 0 then keep(at, kept) end
if null then purge(at, null, gone) end
redis.call('RENAME', KEYS[1], KEYS[2])
redis.call('PERSIST', KEYS[2])
if KEYS[7] and not parts then
  redis.call('PERSIST', KEYS[7])
  redis.call('PERSIST', KEYS[8])
end
if #head == 0 then
  redis.call('ZADD', KEYS[3], 0, ARGV[3])
  redis.call('HINCRBY', KEYS[4], 'o:' .. bucket, 1)
end
local grown = size - size_of(replaced)
if grown ~= 0 or not sums[1] then redis.call('HINCRBY', KEYS[4], 'b:' .. bucket, string.format('%.0f', grown)) end
if ARGV[1] ~= '' then redis.call('ZREM', KEYS[5], ARGV[1]) end
if reserved > 0 then count(at, 'r:', -reserved) end
if #replaced == 128 then doom(at, replaced) end
end_later(at, ends, bucket .. '/' .. ARGV[3])
if parts then
  redis.call('UNLINK', KEYS[7])
  redis.call('ZREM', KEYS[8], ARGV[12])
  local now = clock()
  for i = 13, #ARGV do redis.call('ZADD', KEYS[6], now, ARGV[i]) end
end
return {'OK', replaced, kept, gone}
