#!lua flags=allow-oom
-- Frees a stretch of an orphan's chunks, or says who refers to it. Everything is read again, in one atomic step.
-- KEYS manifest, journal, pending free, part list, then the chunks of this stretch
-- ARGV 1 tag, 2 generation in hex, 3 generation as bytes, 4 slot, 5 '1' when the manifest goes with this stretch
local manifest, journal, doomed, parts = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local tag, hex, id = ARGV[1], ARGV[2], ARGV[3]
local function listed(key)
  local cursor = '0'
  repeat
    local page = redis.call('ZSCAN', key, cursor, 'MATCH', hex .. '*', 'COUNT', 1000)
    if #page[2] > 0 then return true end
    cursor = page[1]
  until cursor == '0'
  return false
end
if listed(journal) then return {'NAMED', 'an upload in flight'} end
if listed(doomed) then return {'NAMED', 'the list of generations to free'} end
if redis.call('EXISTS', parts) == 1 then return {'NAMED', 'a part list'} end
local head = redis.call('GETRANGE', manifest, 0, 47)
if #head == 48 then
  local bucket_len, name_len = struct.unpack('<I2I2', string.sub(head, 41, 44))
  local part = math.floor(struct.unpack('<I4', string.sub(head, 5, 8)) / 2) % 2 == 1
  local text = redis.call('GETRANGE', manifest, 48, 47 + bucket_len + name_len + (part and 16 or 0))
  local object = string.sub(text, 1, bucket_len) .. '/' .. string.sub(text, bucket_len + 1, bucket_len + name_len)
  -- A part is named by the generation of its upload, which becomes that of the object.
  if part then
    id = string.sub(text, bucket_len + name_len + 1)
    hex = string.gsub(id, '.', function(c) return string.format('%02x', string.byte(c)) end)
    if redis.call('EXISTS', 'u:{' .. tag .. '}:' .. hex) == 1 then return {'NAMED', 'an open upload'} end
  end
  if redis.call('GETRANGE', 'o:{' .. tag .. '}:' .. object, 8, 23) == id then return {'NAMED', 'its record'} end
  if redis.call('EXISTS', 'h:{' .. tag .. '}:' .. hex .. ':' .. object) == 1 then return {'NAMED', 'a version'} end
else
  -- Nothing says whose it is: no record of the whole slot may name it.
  local count = redis.call('CLUSTER', 'COUNTKEYSINSLOT', ARGV[4])
  if count > 50000 then return {'NAMED', 'a slot too full to search'} end
  for _, key in ipairs(redis.call('CLUSTER', 'GETKEYSINSLOT', ARGV[4], count)) do
    local family = string.sub(key, 1, 2)
    if (family == 'o:' or family == 'h:') and redis.call('GETRANGE', key, 8, 23) == id then
      return {'NAMED', 'a record'}
    end
    if family == 'u:' or family == 'm:' then return {'NAMED', 'parts, perhaps'} end
  end
end
local keys, bytes = 0, 0
local function free(key)
  local len = redis.call('STRLEN', key)
  if redis.call('UNLINK', key) == 1 then keys, bytes = keys + 1, bytes + len end
end
for i = 5, #KEYS do free(KEYS[i]) end
if ARGV[5] == '1' then free(manifest) end
return {'FREED', keys, bytes}
