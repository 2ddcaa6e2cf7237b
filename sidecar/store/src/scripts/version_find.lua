-- Where a version lies. KEYS record; ARGV 'null', the version's generation, or 'newest': the one that no record hides
-- Answers with 'current' or 'history' and the version's head.
local at = place(KEYS[1])
local head = redis.call('GETRANGE', KEYS[1], 0, 127)
if ARGV[1] == 'newest' then
  local entry = #head == 0 and newest(at)
  return entry and {'history', head_of(at, entry)} or {}
end
if #head == 128 and versioned(head) == (ARGV[1] ~= 'null') and (ARGV[1] == 'null' or id_of(head) == ARGV[1]) then
  return {'current', head}
end
local old
if ARGV[1] == 'null' then
  local entry = null_entry(at)
  old = entry and head_of(at, entry) or ''
else
  old = redis.call('GETRANGE', history(at, ARGV[1]), 0, 127)
  if #old == 128 and not versioned(old) then old = '' end
end
return #old > 0 and {'history', old} or {}
