-- SPDX-License-Identifier: Apache-2.0
-- What time alone changes; any aggregator may run it at any time. KEYS[1] the offsets hash. ARGV 1 prefix,
-- 2 Unix time now in ms, 3 ms after which a speed is stale, 4 ms after which a silent process is forgotten, 5 the same
-- for one that said goodbye.
local prefix, now = ARGV[1], tonumber(ARGV[2])

for _, status in ipairs({ 'running', 'replicating', 'paused' }) do
  for _, job in ipairs(redis.call('ZREVRANGE', prefix .. 'jobs:' .. status, 0, 999)) do
    local key, fold = prefix .. 'job:' .. job, prefix .. 'fold:' .. job
    local rated = tonumber(redis.call('HGET', fold, 'rated_ms') or '')
    if rated and rated < now - tonumber(ARGV[3]) then
      redis.call('HDEL', fold, 'rated_ms', 'w:')
      redis.call('HSET', key, 'transfer_speed_bps', '0', 'vma_throughput_mbps', '0.00', 'vma_eta_seconds', '')
      for _, field in ipairs(redis.call('HKEYS', fold)) do
        local disk = string.match(field, '^d:(.*)$')
        if disk then
          redis.call('HDEL', fold, 'w:' .. disk)
          redis.call('HSET', prefix .. 'disk:' .. job .. ':' .. disk, 'transfer_speed_bps', '0', 'eta_seconds', '')
        end
      end
    end
  end
end

local fleet = redis.call('HGETALL', prefix .. 'fleet')
for i = 1, #fleet, 2 do
  local at = tonumber(string.match(fleet[i + 1], '"at_ms":(%d+)') or '0')
  local stopped = string.find(fleet[i + 1], '"stopped":true', 1, true)
  if at < now - tonumber(stopped and ARGV[5] or ARGV[4]) then
    redis.call('HDEL', prefix .. 'fleet', fleet[i])
  end
end
return 'OK'
