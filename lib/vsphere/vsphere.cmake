# SPDX-License-Identifier: Apache-2.0
drover_library(drover_vsphere
  SOURCES vsphere/areas.c vsphere/change_id.c vsphere/changed_areas.c vsphere/describe.c vsphere/device.c vsphere/fault.c vsphere/http.c vsphere/inventory.c
          vsphere/power.c vsphere/privileges.c vsphere/property.c vsphere/reconfigure.c
          vsphere/session.c vsphere/session_limit.c vsphere/snapshot.c vsphere/soap_answer.c vsphere/soap_writer.c
          vsphere/task.c vsphere/turn.c vsphere/vcenter.c vsphere/vm.c
  LIBS drover_base drover_rangeset drover_digest PkgConfig::GIOUNIX PkgConfig::CURL PkgConfig::LIBXML PkgConfig::SSL PkgConfig::CRYPTO)
