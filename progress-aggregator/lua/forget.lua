-- A tombstone in drover.state. 7 what (job, disk, task, other), 8 job, 9 disk.
local function apply()
  local job = ARGV[8]
  if ARGV[7] == 'job' then
    local key = prefix .. 'job:' .. job
    local status = get(key, 'status')
    if status then
      redis.call('ZREM', prefix .. 'jobs:' .. status, job)
    end
    redis.call('ZREM', prefix .. 'jobs', job)
    for _, field in ipairs(redis.call('HKEYS', prefix .. 'fold:' .. job)) do
      local disk = string.match(field, '^d:(.*)$')
      if disk then
        redis.call('DEL', prefix .. 'disk:' .. job .. ':' .. disk)
      end
    end
    redis.call('DEL', key, prefix .. 'fold:' .. job, prefix .. 'failover:' .. job, prefix .. 'log:' .. job)
  end
end
apply()
