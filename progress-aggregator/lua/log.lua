-- A line of the job log. 7 job, then the pairs of the entry.
local function apply()
  local key = prefix .. 'log:' .. ARGV[7]
  local entry = {}
  for i = 8, #ARGV do
    entry[#entry + 1] = ARGV[i]
  end
  redis.call('XADD', key, 'MAXLEN', '~', '2000', '*', unpack(entry))
  -- Audit records outlive their jobs: a log without a job goes away by itself.
  if redis.call('EXISTS', prefix .. 'job:' .. ARGV[7]) == 0 then
    redis.call('EXPIRE', key, 86400)
  end
end
apply()
