-- Objects and versions of a partition in one order: by name, the current one first, then the newest; common prefixes
-- each told once. Three values for each: 'c' current, 'l' the newest of a name without a current one, 'v' any other,
-- 'p' a prefix; the name, the entry or the prefix; the head.
-- KEYS names, versions; ARGV 1 lower end of names, 2 lower end of versions, 3 upper end, 4 length of the request's
-- prefix, 5 delimiter or '', 6 most items
local tag, bucket = string.match(KEYS[1], '^x:(%b{}):(.*)$')
local function hex(id)
  return (string.gsub(id, '.', function(c) return string.format('%02x', string.byte(c)) end))
end
-- The engine compares texts by its locale.
local function not_above(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a <= #b
end
local function first(key, from) return redis.call('ZRANGEBYLEX', key, from, ARGV[3], 'LIMIT', 0, 1)[1] end
local function behind(prefix)
  local last = #prefix
  while last > 0 and string.byte(prefix, last) == 255 do last = last - 1 end
  return last > 0 and '[' .. string.sub(prefix, 1, last - 1) .. string.char(string.byte(prefix, last) + 1)
end
local found, names, versions, asked = {}, ARGV[1], ARGV[2], nil
local function tell(kind, text, head)
  found[#found + 1] = kind
  found[#found + 1] = text
  found[#found + 1] = head
end
local function newest(name, entry)
  if name == asked then return false end
  asked = name
  if redis.call('ZSCORE', KEYS[1], name) then return false end
  return redis.call('ZRANGEBYLEX', KEYS[2], '[' .. name .. '\0', '(' .. name .. '\1', 'LIMIT', 0, 1)[1] == entry
end
for _ = 1, tonumber(ARGV[6]) do
  local name, entry = first(KEYS[1], names), first(KEYS[2], versions)
  local of = entry and string.match(entry, '^[^%z]*')
  if entry and string.sub(entry, #of + 2, #of + 5) == '\255\255\255\255' then
    -- The second entry of the version `null`.
    versions = '(' .. entry
    entry = first(KEYS[2], versions)
    of = entry and string.match(entry, '^[^%z]*')
  end
  if not name and not entry then return found end
  local current = name and (not entry or not_above(name, of))
  local here = current and name or of
  local at = ARGV[5] ~= '' and string.find(here, ARGV[5], tonumber(ARGV[4]) + 1, true)
  if at then
    local prefix = string.sub(here, 1, at + #ARGV[5] - 1)
    tell('p', prefix, '')
    names = behind(prefix)
    if not names then return found end
    versions = names
  elseif current then
    tell('c', name, redis.call('GETRANGE', 'o:' .. tag .. ':' .. bucket .. '/' .. name, 0, 127))
    names = '(' .. name
  else
    local id = string.sub(entry, #of + 6, #of + 21)
    local head = redis.call('GETRANGE', 'h:' .. tag .. ':' .. hex(id) .. ':' .. bucket .. '/' .. of, 0, 127)
    tell(newest(of, entry) and 'l' or 'v', entry, head)
    versions = '(' .. entry
  end
end
return found
