/* SPDX-License-Identifier: Apache-2.0 */
/* From properties of vCenter's objects to a DroverVsphereVm. Pure. */
#ifndef DROVER_LIB_VSPHERE_DESCRIBE_H
#define DROVER_LIB_VSPHERE_DESCRIBE_H

#include "lib/vsphere/property.h"
#include "lib/vsphere/vm.h"

/* What to ask for: first of VMs, then of what they lie on, hang on and run on. */
extern const DroverVspherePropertySet drover_vsphere_description[];
extern const size_t drover_vsphere_description_n;

/* VM, with the hosts, datastores, networks and folders found in ALL. */
DroverVsphereVm *drover_vsphere_describe(const DroverVsphereProperties *all, const DroverVsphereObject *vm);

#endif
