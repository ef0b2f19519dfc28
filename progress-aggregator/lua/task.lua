-- Task state record. 7 job, 8 disk, 9 task, 10 version, 11 round, 12 kind (copy, repair, inspect, source-vm), 13 planned bytes,
-- 14 length of the range, 15 finished (0 or 1), 16 final data bytes, 17 final zero bytes, 18 updated ms, 19 updated ISO.
local function apply()
  local job, disk, id, version, kind = ARGV[7], ARGV[8], ARGV[9], tonumber(ARGV[10]), ARGV[12]
  local task = load_task(prefix .. 'fold:' .. job, id, disk, tonumber(ARGV[11]))
  if version <= task.version then
    return
  end
  local before = share(task)
  task.version, task.kind = version, kind
  task.planned, task.length = tonumber(ARGV[13]), tonumber(ARGV[14])
  if ARGV[15] == '1' then
    task.done = 1
    task.data = math.max(task.data, tonumber(ARGV[16]))
    task.zero = math.max(task.zero, tonumber(ARGV[17]))
  end
  count_task(job, id, task, before)
  touch(job, ARGV[18], ARGV[19])
  if kind == 'copy' then
    publish(job, disk)
  end
end
apply()
