/* SPDX-License-Identifier: Apache-2.0 */
/* What a fault of vSphere means for Drover: class and code (vsphere.h). Pure. */
#ifndef DROVER_LIB_VSPHERE_FAULT_H
#define DROVER_LIB_VSPHERE_FAULT_H

#include "lib/base/error.h"
#include "lib/vsphere/soap.h"

/* Code ("DRV-VCENTER-RIGHTS") and class of a fault TYPE; unknown ones are retryable DRV-VCENTER-FAULT. */
const char *drover_vsphere_fault_code(const char *type, DroverErrorClass *error_class);
/* Sets *ERROR to "CODE: vCenter DOING: message"; returns false. DOING e.g. "CreateSnapshot_Task of vm-12". */
bool drover_vsphere_fault_fail(const DroverVsphereFault *fault, const char *doing, GError **error);
bool drover_vsphere_fault_is(const DroverVsphereFault *fault, const char *type); /* FAULT may be NULL */

#endif
