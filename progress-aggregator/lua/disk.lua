-- Disk state record. 7 job, 8 disk, 9 version, 10 round, 11 allocated bytes, 12 capacity bytes, 13 final data bytes
-- (-1: the round is not finished), 14 ended (0 or 1), 15 "<vm>:<disk>" of the history or '', 16 number of pairs of the
-- history entry, then the pairs; then the number of pairs of the disk hash and those.
local function apply()
  local job, disk, version = ARGV[7], ARGV[8], tonumber(ARGV[9])
  local key, fold = prefix .. 'disk:' .. job .. ':' .. disk, prefix .. 'fold:' .. job
  if version <= (tonumber(get(key, 'state_version') or '-1')) then
    return
  end
  local history_count = tonumber(ARGV[16])
  local first = 17 + 2 * history_count
  redis.call('HSET', key, 'job_id', job, 'disk_id', disk, 'state_version', int(version))
  redis.call('HSETNX', key, 'transfer_speed_bps', '0')
  redis.call('HSETNX', key, 'eta_seconds', '')
  set_pairs(key, first + 1, tonumber(ARGV[first]))
  redis.call('HSET', fold, 'd:' .. disk, table.concat({ ARGV[10], ARGV[11], ARGV[12], ARGV[13] }, ' '))
  if ARGV[14] == '1' then
    redis.call('HSET', key, 'transfer_speed_bps', '0', 'eta_seconds', ARGV[13] == '-1' and '' or '0')
  end
  show_change_id(job)
  show_bytes(job, disk)
  -- One line of history per round.
  if ARGV[15] ~= '' and tonumber(ARGV[10]) > tonumber(get(fold, 'h:' .. disk) or '-1') then
    local entry = {}
    for i = 17, first - 1 do
      entry[#entry + 1] = ARGV[i]
    end
    redis.call('XADD', prefix .. 'cbt_history:' .. ARGV[15], 'MAXLEN', '~', '1000', '*', unpack(entry))
    redis.call('HSET', fold, 'h:' .. disk, ARGV[10])
  end
  publish(job, disk)
end
apply()
