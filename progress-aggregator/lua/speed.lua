-- SPDX-License-Identifier: Apache-2.0
-- Speed over a sliding window of the times at which workers reported.

local window_ms, spacing_ms = 20000, 500

-- Adds the point (AT_MS, BYTES) to the window of NAME ('' for the job) and returns bytes per second, nil when unknown.
local function measure(job, name, at_ms, bytes)
  local fold = prefix .. 'fold:' .. job
  local points = {}
  for t, b in string.gmatch(redis.call('HGET', fold, 'w:' .. name) or '', '(%d+):(%d+)') do
    points[#points + 1] = { tonumber(t), tonumber(b) }
  end
  local last = points[#points]
  if last and (bytes < last[2]) then
    points = {} -- a new round counts from its own beginning
    last = nil
  end
  if last and (at_ms <= last[1] or (#points > 1 and at_ms - points[#points - 1][1] < spacing_ms)) then
    last[1], last[2] = math.max(last[1], at_ms), bytes
  else
    points[#points + 1] = { at_ms, bytes }
  end
  while #points > 2 and points[2][1] <= at_ms - window_ms do
    table.remove(points, 1)
  end
  local words = {}
  for i, point in ipairs(points) do
    words[i] = int(point[1]) .. ':' .. int(point[2])
  end
  redis.call('HSET', fold, 'w:' .. name, table.concat(words, ' '))
  local first, newest = points[1], points[#points]
  local elapsed = newest[1] - first[1]
  if elapsed < spacing_ms then
    return nil
  end
  return math.floor((newest[2] - first[2]) * 1000 / elapsed)
end

-- Seconds until TOTAL at SPEED bytes per second; '' when unknown.
local function eta(bytes, total, speed)
  if total > 0 and bytes >= total then
    return '0'
  elseif not speed or speed <= 0 then
    return ''
  end
  return int(math.ceil((total - bytes) / speed))
end

local function show_speed(job, disk, at_ms, disk_bytes, job_bytes, reported)
  local disk_key, job_key = prefix .. 'disk:' .. job .. ':' .. disk, prefix .. 'job:' .. job
  -- Before the window has two points, the worker's own figure is the best there is.
  local disk_speed = measure(job, disk, at_ms, disk_bytes) or reported
  local job_speed = measure(job, '', at_ms, job_bytes) or reported
  redis.call('HSET', disk_key, 'transfer_speed_bps', int(disk_speed), 'eta_seconds',
    eta(disk_bytes, number(disk_key, 'total_bytes'), disk_speed))
  redis.call('HSET', job_key, 'transfer_speed_bps', int(job_speed), 'vma_throughput_mbps',
    string.format('%.2f', job_speed / 1e6), 'vma_eta_seconds',
    eta(job_bytes, number(job_key, 'total_bytes'), job_speed))
  redis.call('HSET', prefix .. 'fold:' .. job, 'rated_ms', int(math.max(now, at_ms)))
end

local function is_terminal(status)
  return status == 'completed' or status == 'failed' or status == 'cancelled' or status == 'rolled-back'
end
