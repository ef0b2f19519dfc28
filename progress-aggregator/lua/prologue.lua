-- SPDX-License-Identifier: Apache-2.0
-- First part of every script that folds one Kafka record; the script itself follows as the body of apply().
--
-- KEYS[1]  the offsets hash, <prefix>offsets
-- ARGV     1 prefix, 2 epoch, 3 topic/partition, 4 offset of the record, 5 the offset that the caller believes to be
--          next here (-1: none), 6 Unix time now in ms; the script's own arguments from 7
-- Returns  OK, SKIP (folded before), or LOST: this Redis does not hold what the caller has folded, read it again
local prefix, topic_partition, offset, now = ARGV[1], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[6])

if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[2] then
  return 'LOST'
end
local next_offset = tonumber(redis.call('HGET', KEYS[1], topic_partition) or '-1')
if next_offset < tonumber(ARGV[5]) then
  return 'LOST'
end
if offset < next_offset then
  return 'SKIP'
end

-- Lua's numbers are doubles: exact up to 2^53, 8 PiB in bytes. tostring() would round from 10^14 on.
local function int(number)
  return string.format('%.0f', number)
end

local function get(key, field)
  return redis.call('HGET', key, field)
end

local function number(key, field)
  return tonumber(redis.call('HGET', key, field) or '') or 0
end

-- Sets pairs of ARGV from index FIRST, COUNT of them.
local function set_pairs(key, first, count)
  for i = first, first + 2 * count - 1, 2 do
    redis.call('HSET', key, ARGV[i], ARGV[i + 1])
  end
end

-- A job shows once its own record has been folded; until then (or when it was deleted) what comes is only counted.
local function is_known(job)
  return get(prefix .. 'job:' .. job, 'status')
end

local function touch(job, at_ms, at_iso)
  local key = prefix .. 'job:' .. job
  if not is_known(job) then
    return
  end
  if at_iso > (get(key, 'updated_at') or '') then
    redis.call('HSET', key, 'updated_at', at_iso)
  end
  redis.call('ZADD', prefix .. 'jobs', 'XX', 'GT', at_ms, job)
  redis.call('ZADD', prefix .. 'jobs:' .. get(key, 'status'), 'XX', 'GT', at_ms, job)
end

-- The job's change ids are those of its root disk.
local function show_change_id(job)
  local key = prefix .. 'job:' .. job
  if not is_known(job) then
    return
  end
  local root = string.match(get(key, 'disks') or '', '^[^,]+')
  local ids = root and redis.call('HMGET', prefix .. 'disk:' .. job .. ':' .. root, 'disk_change_id',
    'previous_change_id') or {}
  redis.call('HSET', key, 'change_id', ids[1] or '', 'previous_change_id', ids[2] or '')
end

local function text(value)
  return cjson.encode(value or '')
end

-- One compact JSON message per change.
local function publish(job, disk)
  if not is_known(job) then
    return
  end
  local j = redis.call('HMGET', prefix .. 'job:' .. job, 'status', 'current_operation', 'vma_current_phase',
    'bytes_transferred', 'total_bytes', 'progress_percent', 'transfer_speed_bps', 'vma_eta_seconds', 'updated_at')
  local message = '{"job_id":' .. text(job) .. ',"status":' .. text(j[1]) .. ',"current_operation":' .. text(j[2]) ..
    ',"vma_current_phase":' .. text(j[3]) .. ',"bytes_transferred":' .. (j[4] or '0') .. ',"total_bytes":' ..
    (j[5] or '0') .. ',"progress_percent":' .. (j[6] or '0') .. ',"transfer_speed_bps":' .. (j[7] or '0') ..
    ',"vma_eta_seconds":' .. (tonumber(j[8] or '') and j[8] or 'null') .. ',"updated_at":' .. text(j[9])
  if disk then
    local d = redis.call('HMGET', prefix .. 'disk:' .. job .. ':' .. disk, 'sync_status', 'bytes_synced',
      'total_bytes', 'sync_progress_percent')
    message = message .. ',"disk":{"disk_id":' .. text(disk) .. ',"sync_status":' .. text(d[1]) ..
      ',"bytes_synced":' .. (d[2] or '0') .. ',"total_bytes":' .. (d[3] or '0') ..
      ',"sync_progress_percent":' .. (d[4] or '0') .. '}'
  end
  redis.call('PUBLISH', prefix .. 'progress', message .. '}')
end
