/* SPDX-License-Identifier: Apache-2.0 */
/* Preflight of the target that a job has in mind, by the volume agent there. */
#ifndef DROVER_CLI_PREFLIGHT_TARGET_H
#define DROVER_CLI_PREFLIGHT_TARGET_H

#include "cli/request.h"
#include "core/preflight/preflight.h"

/* A job's disks and name as VM has them, for those who have no job yet; the target is the agent's own choice. */
void drover_request_for_vm(DroverRequest *request, const DroverVsphereVm *vm);

/* What the agent of REQUEST (completed) finds; VM, which may be NULL, tells what the file does not: sizes, firmware, guest and
 * network cards. VOLUMES_ONLY: no VM will be made there. DroverFinding, errors first. Blocks up to TIMEOUT_MS. */
GPtrArray *drover_preflight_by_agent(DroverSession *session, const DroverRequest *request, const DroverVsphereVm *vm,
                                     bool volumes_only, int64_t timeout_ms, GError **error);

#endif
