/* SPDX-License-Identifier: Apache-2.0 */
/* What the vSphere client found, as JSON. */
#ifndef DROVER_TESTS_VSPHERE_PROBE_SHOW_H
#define DROVER_TESTS_VSPHERE_PROBE_SHOW_H

#include <jansson.h>

#include "lib/vsphere/vsphere.h"

json_t *show_vm(const DroverVsphereVm *vm);
json_t *show_disks(const GPtrArray *disks);
json_t *show_strings(char **strings);
json_t *show_ranges(const GArray *ranges);

#endif
