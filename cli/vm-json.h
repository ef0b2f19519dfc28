/* SPDX-License-Identifier: Apache-2.0 */
/* VMs of a vCenter as JSON: all that planning needs. Keys are listed in docs/vmware.md. Pure. */
#ifndef DROVER_CLI_VM_JSON_H
#define DROVER_CLI_VM_JSON_H

#include <jansson.h>

#include "core/preflight/preflight.h"
#include "lib/vsphere/vm.h"

/* The caller's references. */
json_t *drover_vm_json(const char *vcenter, const DroverVsphereVm *vm);
json_t *drover_findings_json(const GPtrArray *findings);
/* What json_string() refuses, because it is no UTF-8, is made valid. */
json_t *drover_json_text(const char *text);
/* Prints VALUE, indented, and releases it. */
void drover_json_print(json_t *value);

#endif
