# SPDX-License-Identifier: Apache-2.0
drover_library(drover_digest SOURCES digest/digest.c digest/zero.c LIBS PkgConfig::XXHASH PkgConfig::CRYPTO)

# Distributions build libxxhash for the oldest machine of their kind; its dispatcher uses AVX2 or AVX-512 where they exist.
include(CheckLibraryExists)
check_library_exists(xxhash XXH3_128bits_dispatch "${XXHASH_LIBDIR}" DROVER_HAVE_XXH_DISPATCH)
if(DROVER_HAVE_XXH_DISPATCH)
  target_compile_definitions(drover_digest PRIVATE DROVER_HAVE_XXH_DISPATCH)
endif()

include(${CMAKE_CURRENT_SOURCE_DIR}/rangeset/rangeset.cmake)
