-- SPDX-License-Identifier: Apache-2.0
-- How bytes of tasks become bytes of disks and jobs. Included by the scripts that need it.
--
-- The hash <prefix>fold:<job> holds what is needed to add without reading everything again (not part of the contract):
--   t:<task>          one task: the fields of `task_fields`, separated by spaces
--   s:<disk>:<round>  sums over the copy tasks of one round: planned, length, data, total
--   d:<disk>          round, allocated, capacity, final data (-1: round not finished)
--   r:<disk>          largest round seen in any record of a task
--   w:<disk>, w:      points "time:bytes" of the last seconds, of the disk and of the job
-- Tasks count by the newest (attempt, sequence); what has been counted is never taken back, because flushed cells of a
-- frozen source stay valid, and a repeated cell is the same cell.

local task_fields = { 'disk', 'round', 'kind', 'attempt', 'sequence', 'planned', 'length', 'data', 'zero', 'done',
  'version' }

local function load_task(fold, id, disk, round)
  local packed = redis.call('HGET', fold, 't:' .. id)
  -- '?': reported by a worker, not (yet) known from drover.state.
  local task = { disk = disk, round = round, kind = '?', attempt = 0, sequence = 0, planned = 0, length = 0, data = 0,
    zero = 0, done = 0, version = 0 }
  if packed then
    local i = 1
    for word in string.gmatch(packed, '%S+') do
      local field = task_fields[i]
      task[field] = (i == 1 or i == 3) and word or tonumber(word)
      i = i + 1
    end
  end
  return task
end

local function save_task(fold, id, task)
  local words = {}
  for i, field in ipairs(task_fields) do
    words[i] = type(task[field]) == 'number' and int(task[field]) or task[field]
  end
  redis.call('HSET', fold, 't:' .. id, table.concat(words, ' '))
end

-- What a task adds to the sums of its disk.
local function share(task)
  if task.kind == '?' then
    return { planned = 0, length = 0, data = task.data, total = 0 }
  elseif task.kind ~= 'copy' then
    return { planned = 0, length = 0, data = 0, total = 0 }
  end
  -- The total is what must move: zeroes found while reading lower it, a finished task knows it exactly.
  local total = task.done == 1 and task.data or math.max(task.planned - task.zero, task.data)
  return { planned = task.planned, length = task.length, data = task.data, total = total }
end

local sum_fields = { 'planned', 'length', 'data', 'total' }

local function load_sums(fold, disk, round)
  local packed = redis.call('HGET', fold, 's:' .. disk .. ':' .. round)
  local sums = { planned = 0, length = 0, data = 0, total = 0 }
  if packed then
    local i = 1
    for word in string.gmatch(packed, '%S+') do
      sums[sum_fields[i]] = tonumber(word)
      i = i + 1
    end
  end
  return sums
end

local function add_to_sums(fold, disk, round, before, after)
  local sums = load_sums(fold, disk, round)
  local words = {}
  for i, field in ipairs(sum_fields) do
    words[i] = int(sums[field] + after[field] - before[field])
  end
  redis.call('HSET', fold, 's:' .. disk .. ':' .. round, table.concat(words, ' '))
  if round > tonumber(redis.call('HGET', fold, 'r:' .. disk) or '-1') then
    redis.call('HSET', fold, 'r:' .. disk, int(round))
  end
end

local function percent(bytes, total)
  if total <= 0 then
    return '0'
  end
  return string.format('%.2f', math.floor(bytes * 10000 / total) / 100)
end

-- Brings the public hashes of DISK and its job up to the sums. Returns the bytes of the disk and of the job.
local function show_bytes(job, disk)
  local fold, disk_key, job_key = prefix .. 'fold:' .. job, prefix .. 'disk:' .. job .. ':' .. disk,
    prefix .. 'job:' .. job
  local round, allocated, capacity, final = string.match(redis.call('HGET', fold, 'd:' .. disk) or '',
    '^(%S+) (%S+) (%S+) (%S+)$')
  if not is_known(job) then
    redis.call('EXPIRE', fold, 7 * 86400)
    return 0, 0
  end
  local known = round ~= nil
  round = tonumber(round or redis.call('HGET', fold, 'r:' .. disk) or '0')
  local sums = load_sums(fold, disk, int(round))
  local bytes, total = sums.data, sums.total
  if known and tonumber(final) >= 0 then
    bytes = math.max(bytes, tonumber(final))
    total = bytes
  elseif known and sums.length < tonumber(capacity) then
    -- Not every task has been seen yet: the rest counts as the inspection of the source found it.
    total = total + math.max(tonumber(allocated) - sums.planned, 0)
  end
  total = math.max(total, bytes)
  local old_bytes, old_total = number(disk_key, 'bytes_synced'), number(disk_key, 'total_bytes')
  redis.call('HSET', disk_key, 'bytes_synced', int(bytes), 'total_bytes', int(total), 'sync_progress_percent',
    percent(bytes, total))
  local job_bytes = redis.call('HINCRBY', job_key, 'bytes_transferred', int(bytes - old_bytes))
  local job_total = redis.call('HINCRBY', job_key, 'total_bytes', int(total - old_total))
  redis.call('HSET', job_key, 'progress_percent',
    get(job_key, 'status') == 'completed' and '100.00' or percent(job_bytes, job_total))
  return bytes, job_bytes
end

-- Adds the difference between what TASK was worth BEFORE and is now.
local function count_task(job, id, task, before)
  local fold = prefix .. 'fold:' .. job
  save_task(fold, id, task)
  add_to_sums(fold, task.disk, task.round, before, share(task))
  return show_bytes(job, task.disk)
end
