# SPDX-License-Identifier: Apache-2.0
set(DROVER_SANITIZE "" CACHE STRING "Sanitizers to build with, e.g. address,undefined or thread")
if(DROVER_SANITIZE)
  add_compile_options(-fsanitize=${DROVER_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${DROVER_SANITIZE})
endif()
