-- A heartbeat. 7 process id, 8 at ms, 9 JSON.
local function apply()
  local key = prefix .. 'fleet'
  local old = get(key, ARGV[7])
  if old and tonumber(string.match(old, '"at_ms":(%d+)') or '0') > tonumber(ARGV[8]) then
    return
  end
  redis.call('HSET', key, ARGV[7], ARGV[9])
end
apply()
