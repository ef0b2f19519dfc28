/* SPDX-License-Identifier: Apache-2.0 */
/* Source kind "vsphere": one disk of a VM as a snapshot has frozen it, read through a child `nbdkit vddk`. */
#ifndef DROVER_WORKER_VSPHERE_SOURCE_H
#define DROVER_WORKER_VSPHERE_SOURCE_H

#include "worker/source/source.h"

extern const DroverSourceKind drover_source_vsphere;

#endif
