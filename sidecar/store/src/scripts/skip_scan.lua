-- Names, and common prefixes each told once: behind a prefix the scan jumps over everything that begins with it.
-- KEYS names; ARGV 1 lower end, 2 upper end, 3 length of the request's prefix, 4 delimiter, 5 most items
local found, from = {}, ARGV[1]
for _ = 1, tonumber(ARGV[5]) do
  local name = redis.call('ZRANGEBYLEX', KEYS[1], from, ARGV[2], 'LIMIT', 0, 1)[1]
  if not name then return found end
  local at = string.find(name, ARGV[4], tonumber(ARGV[3]) + 1, true)
  if at then
    local prefix = string.sub(name, 1, at + #ARGV[4] - 1)
    found[#found + 1] = 'p' .. prefix
    local last = #prefix
    while last > 0 and string.byte(prefix, last) == 255 do last = last - 1 end
    if last == 0 then return found end
    from = '[' .. string.sub(prefix, 1, last - 1) .. string.char(string.byte(prefix, last) + 1)
  else
    found[#found + 1] = 'n' .. name
    from = '(' .. name
  end
end
return found
