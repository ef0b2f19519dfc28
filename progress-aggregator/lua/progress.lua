-- A worker's progress, or the end of a copy task. 7 job, 8 disk, 9 task, 10 round, 11 attempt, 12 sequence,
-- 13 kind ('?', 'repair'; 'known': count only what drover.state calls a copy task), 14 finished (0 or 1),
-- 15 data bytes, 16 zero bytes, 17 reported bytes per second, 18 at ms, 19 at ISO, 20 what it waits for.
local function apply()
  local job, disk, id = ARGV[7], ARGV[8], ARGV[9]
  local attempt, sequence = tonumber(ARGV[11]), tonumber(ARGV[12])
  local task = load_task(prefix .. 'fold:' .. job, id, disk, tonumber(ARGV[10]))
  if ARGV[13] == 'repair' or (ARGV[13] == 'known' and task.kind ~= 'copy') then
    return
  end
  if attempt < task.attempt or (attempt == task.attempt and sequence <= task.sequence) then
    return
  end
  local before = share(task)
  task.attempt, task.sequence = attempt, sequence
  task.data = math.max(task.data, tonumber(ARGV[15]))
  task.zero = math.max(task.zero, tonumber(ARGV[16]))
  if ARGV[14] == '1' then
    task.done = 1
  end
  local disk_bytes, job_bytes = count_task(job, id, task, before)
  -- A clock that is ahead must not freeze the window.
  local at_ms = math.min(tonumber(ARGV[18]), now)
  local status = is_known(job)
  if status and not is_terminal(status) and task.kind ~= 'repair' then
    show_speed(job, disk, at_ms, disk_bytes, job_bytes, tonumber(ARGV[17]))
    if ARGV[20] ~= '' then
      redis.call('HSET', prefix .. 'disk:' .. job .. ':' .. disk, 'stall_cause', ARGV[20])
    end
  end
  touch(job, int(at_ms), ARGV[19])
  publish(job, disk)
end
apply()
