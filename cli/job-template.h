/* SPDX-License-Identifier: Apache-2.0 */
/* A job file for a discovered VM, as `drover submit` takes it. Pure. */
#ifndef DROVER_CLI_JOB_TEMPLATE_H
#define DROVER_CLI_JOB_TEMPLATE_H

#include "core/preflight/preflight.h"
#include "lib/vsphere/vm.h"

/* YAML, newly allocated; FINDINGS stand in it as comments. */
char *drover_job_template(const char *vcenter, const DroverVsphereVm *vm, const GPtrArray *findings);

#endif
