redis.call('HSET', KEYS[1], topic_partition, int(offset + 1))
return 'OK'
