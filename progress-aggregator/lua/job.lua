-- Job state record. 7 job, 8 version, 9 status, 10 ended (0 or 1), 11 updated ms, 12 updated ISO,
-- 13 number of pairs of the job hash, then the pairs, then the number of pairs of the failover hash and those.
local function apply()
  local job, version, status, ended = ARGV[7], tonumber(ARGV[8]), ARGV[9], ARGV[10] == '1'
  local key = prefix .. 'job:' .. job
  if version <= (tonumber(get(key, 'state_version') or '-1')) then
    return
  end
  local before = get(key, 'status')
  if before and before ~= status then
    redis.call('ZREM', prefix .. 'jobs:' .. before, job)
  end
  redis.call('ZADD', prefix .. 'jobs', 'GT', ARGV[11], job)
  redis.call('ZADD', prefix .. 'jobs:' .. status, 'GT', ARGV[11], job)
  for _, field in ipairs({ 'bytes_transferred', 'total_bytes', 'progress_percent', 'transfer_speed_bps' }) do
    redis.call('HSETNX', key, field, '0')
  end
  redis.call('HSETNX', key, 'vma_throughput_mbps', '0.00')
  redis.call('HSETNX', key, 'vma_eta_seconds', '')
  redis.call('HSET', key, 'job_id', job, 'state_version', int(version), 'status', status)
  local count = tonumber(ARGV[13])
  set_pairs(key, 14, count)
  if ended then
    -- A finished job does not move: no speed, and an ETA only where there is an end.
    redis.call('HSET', key, 'transfer_speed_bps', '0', 'vma_throughput_mbps', '0.00', 'vma_eta_seconds',
      status == 'completed' and '0' or '')
  end
  if status == 'completed' then
    redis.call('HSET', key, 'progress_percent', '100.00')
  end
  if not before then
    local fold, disks = prefix .. 'fold:' .. job, {}
    redis.call('PERSIST', fold)
    for _, field in ipairs(redis.call('HKEYS', fold)) do
      local disk = string.match(field, '^[dr]:(.*)$')
      if disk and not disks[disk] then
        disks[disk] = true
        show_bytes(job, disk)
      end
    end
  end
  show_change_id(job)
  local failover = 14 + 2 * count
  if tonumber(ARGV[failover]) > 0 then
    set_pairs(prefix .. 'failover:' .. job, failover + 1, tonumber(ARGV[failover]))
  end
  touch(job, ARGV[11], ARGV[12])
  redis.call('PERSIST', prefix .. 'log:' .. job)
  publish(job)
end
apply()
