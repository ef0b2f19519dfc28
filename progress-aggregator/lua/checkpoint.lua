-- Completed cells of a task: what is left when the progress messages are gone (they are kept a day only).
-- 7 job, 8 disk, 9 task, 10 round, 11 at ms, 12 at ISO, then index, data bytes and zero bytes of each cell.
local function apply()
  local job, disk, id, round = ARGV[7], ARGV[8], ARGV[9], tonumber(ARGV[10])
  local fold = prefix .. 'fold:' .. job
  local cells = prefix .. 'cells:' .. job .. ':' .. disk .. ':' .. int(round)
  local task = load_task(fold, id, disk, round)
  local data, zero = 0, 0
  for i = 13, #ARGV, 3 do
    if redis.call('SETBIT', cells, ARGV[i], 1) == 0 then
      data, zero = data + tonumber(ARGV[i + 1]), zero + tonumber(ARGV[i + 2])
    end
  end
  redis.call('EXPIRE', cells, 7 * 86400)
  local seen_data, seen_zero = string.match(get(fold, 'c:' .. id) or '0 0', '^(%d+) (%d+)$')
  data, zero = data + tonumber(seen_data), zero + tonumber(seen_zero)
  redis.call('HSET', fold, 'c:' .. id, int(data) .. ' ' .. int(zero))
  if data <= task.data and zero <= task.zero then
    return
  end
  local before = share(task)
  task.data, task.zero = math.max(task.data, data), math.max(task.zero, zero)
  count_task(job, id, task, before)
  touch(job, ARGV[11], ARGV[12])
  publish(job, disk)
end
apply()
