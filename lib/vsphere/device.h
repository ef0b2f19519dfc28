/* SPDX-License-Identifier: Apache-2.0 */
/* Virtual devices as vCenter lists them (config.hardware.device, ArrayOfVirtualDevice). Pure. */
#ifndef DROVER_LIB_VSPHERE_DEVICE_H
#define DROVER_LIB_VSPHERE_DEVICE_H

#include "lib/vsphere/soap.h"
#include "lib/vsphere/vm.h"

/* Goes through the devices of LIST, an array or VirtualHardware; NULL at the end. */
const xmlNode *drover_vsphere_first_device(const xmlNode *list);
bool drover_vsphere_device_is_disk(const xmlNode *device);
bool drover_vsphere_device_is_nic(const xmlNode *device);
/* Its disks, by key; newly allocated array of DroverVsphereDisk. */
GPtrArray *drover_vsphere_device_disks(const xmlNode *list);

#endif
