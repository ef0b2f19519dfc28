# SPDX-License-Identifier: Apache-2.0
# Warnings for our own code. Generated code (protobuf-c) is built without them.
set(DROVER_WARNINGS
  -Wall -Wextra -Wconversion -Wno-sign-conversion -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes
  -Wformat=2 -Wundef -Wwrite-strings -Wno-missing-field-initializers)
option(DROVER_WERROR "Turn warnings into errors" OFF)
if(DROVER_WERROR)
  list(APPEND DROVER_WARNINGS -Werror)
endif()
add_library(drover_options INTERFACE)
target_compile_options(drover_options INTERFACE ${DROVER_WARNINGS} -include ${CMAKE_SOURCE_DIR}/lib/banned.h)
target_compile_definitions(drover_options INTERFACE _GNU_SOURCE G_LOG_DOMAIN="drover" DROVER_VERSION="${PROJECT_VERSION}")
target_include_directories(drover_options INTERFACE ${CMAKE_SOURCE_DIR})
if(CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo")
  target_compile_options(drover_options INTERFACE -fstack-protector-strong -fstack-clash-protection -D_FORTIFY_SOURCE=2)
  target_link_options(drover_options INTERFACE -Wl,-z,relro -Wl,-z,now)
endif()
