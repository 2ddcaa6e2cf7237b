-- Makes a staged record the object, its chunks being there already. Every check comes before the first effect.
-- KEYS staged, record, names, sums, journal, pending free[, multipart upload, open uploads]
-- ARGV 1 journal entry, 2 bucket, 3 name, 4 size, 5 epoch, 6 '1' with a quota, 7 reserved bytes,
--      8 'any', 'absent' or the generation that must be there, 9 'off', 'on' or 'suspended': what the bucket keeps,
--      10 the object's end in ms, or 0,
--      [11 revision of the multipart upload, 12 member of open uploads, 13... entries of parts left out]
-- Answers with the heads of what was replaced, of what is kept as a version, and of the version `null` that went.
local parts = ARGV[11]
local at = {bucket = ARGV[2]}
if ARGV[9] ~= 'off' then at = place(KEYS[2]) end
at.record, at.names, at.sums, at.doomed = KEYS[2], KEYS[3], KEYS[4], KEYS[6]
local new = {size = tonumber(ARGV[4]), epoch = ARGV[5], quota = ARGV[6], reserved = tonumber(ARGV[7]), want = ARGV[8],
  keeps = ARGV[9]}
local function refuse(why, detail)
  redis.call('UNLINK', KEYS[1])
  return {why, detail or ''}
end
if redis.call('EXISTS', KEYS[1]) == 0 then return refuse('MISSING') end
if not redis.call('ZSCORE', KEYS[5], ARGV[1]) then return refuse('SWEPT') end
if parts then
  local state = redis.call('HMGET', KEYS[7], 'meta', 'closed', 'rev', 'bytes')
  if not state[1] or state[2] then return refuse('SWEPT') end
  if (state[3] or '0') ~= parts then return refuse('PARTS') end
  new.reserved = tonumber(state[4] or 0)
end
local why, detail, found = look(at, new)
if why then return refuse(why, detail) end
clear(at, found)
redis.call('RENAME', KEYS[1], KEYS[2])
redis.call('PERSIST', KEYS[2])
settle(at, new, found, ARGV[3], ARGV[10])
redis.call('ZREM', KEYS[5], ARGV[1])
if new.reserved > 0 then count(at, 'r:', -new.reserved) end
if #found.replaced == 128 then doom(at, found.replaced) end
if parts then
  redis.call('UNLINK', KEYS[7])
  redis.call('ZREM', KEYS[8], ARGV[12])
  local now = clock()
  for i = 13, #ARGV do redis.call('ZADD', KEYS[6], now, ARGV[i]) end
end
return {'OK', found.replaced, found.kept, found.gone}
