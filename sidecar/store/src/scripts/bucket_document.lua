-- Sets or deletes a small named document of a bucket. KEYS bucket; ARGV 1 field, 2 text, 3 '1': delete, 4 most documents
if redis.call('EXISTS', KEYS[1]) == 0 or redis.call('HEXISTS', KEYS[1], 'deleting') == 1 then return {'ABSENT'} end
local old = redis.call('HGET', KEYS[1], ARGV[1])
if ARGV[3] == '1' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  if not old then
    local count = 0
    for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
      if string.sub(field, 1, 4) == 'doc:' then count = count + 1 end
    end
    if count >= tonumber(ARGV[4]) then return {'FULL'} end
  end
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
return {'OK', old and tostring(#old) or ''}
