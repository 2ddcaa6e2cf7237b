-- Stores an object of one chunk at most in one step. What is large of it came in the same breath, under keys that end by
-- themselves: its chunk, and its record unless that is short. Every check comes before the first effect.
-- KEYS record, names, sums, pending free, staged record[, chunk, manifest]
-- ARGV 1 bucket, 2 name, 3 size, 4 epoch, 5 '1' with a quota, 6 'any', 'absent' or the generation that must be there,
--      7 'off', 'on' or 'suspended': what the bucket keeps, 8 '1' if nobody reads the object, 9 its end in ms, or 0,
--      10 record, or '' where it is staged[, 11 manifest]
-- Answers with the heads of what was replaced, of what is kept as a version, of the version `null` that went, and '1'
-- if the body of what was replaced is gone already.
local at = {bucket = ARGV[1]}
if ARGV[7] ~= 'off' then at = place(KEYS[1]) end
at.record, at.names, at.sums, at.doomed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local new = {size = tonumber(ARGV[3]), epoch = ARGV[4], quota = ARGV[5], reserved = 0, want = ARGV[6], keeps = ARGV[7]}
local staged, chunk = ARGV[10] == '', KEYS[6]
local why, detail, found = look(at, new)
if not why then
  local here = not staged or redis.call('PERSIST', KEYS[5]) == 1
  if not here or chunk and redis.call('PERSIST', chunk) == 0 then why, detail = 'MISSING', '' end
end
if why then
  if staged then redis.call('UNLINK', KEYS[5]) end
  if chunk then redis.call('UNLINK', chunk) end
  return {why, detail}
end
clear(at, found)
if staged then redis.call('RENAME', KEYS[5], KEYS[1]) else redis.call('SET', KEYS[1], ARGV[10]) end
if chunk then redis.call('SET', KEYS[7], ARGV[11]) end
settle(at, new, found, ARGV[2], ARGV[9])
local freed = #found.replaced == 128 and release(at, found.replaced, ARGV[8]) or ''
return {'OK', found.replaced, found.kept, found.gone, freed}
