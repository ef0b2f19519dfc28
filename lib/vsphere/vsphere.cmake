# SPDX-License-Identifier: Apache-2.0
drover_library(drover_vsphere
  SOURCES vsphere/change_id.c vsphere/vcenter.c vsphere/vm.c
  LIBS drover_base drover_rangeset drover_digest PkgConfig::GIOUNIX PkgConfig::CURL PkgConfig::LIBXML PkgConfig::SSL PkgConfig::CRYPTO)
