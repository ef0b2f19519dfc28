# SPDX-License-Identifier: Apache-2.0
set(DROVER_SANITIZE "" CACHE STRING "Sanitizers to build with, e.g. address,undefined or thread")
if(DROVER_SANITIZE)
  add_compile_options(-fsanitize=${DROVER_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${DROVER_SANITIZE})
endif()

# drover_tsan: told to ThreadSanitizer by every program of such a build; nothing otherwise.
add_library(drover_tsan INTERFACE)
if(DROVER_SANITIZE MATCHES thread)
  target_sources(drover_tsan INTERFACE ${CMAKE_SOURCE_DIR}/lib/sanitizer/tsan.c)
  target_link_libraries(drover_tsan INTERFACE ${CMAKE_DL_LIBS})
endif()
