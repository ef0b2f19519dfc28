# SPDX-License-Identifier: Apache-2.0
drover_library(drover_redis SOURCES ${CMAKE_SOURCE_DIR}/lib/redis/redis.c ${CMAKE_SOURCE_DIR}/lib/redis/address.c
  LIBS drover_base PkgConfig::HIREDIS)
