/* SPDX-License-Identifier: Apache-2.0 */
/* What `drover assess` says about many VMs: go or no-go, size, time, wave. Pure. */
#ifndef DROVER_CLI_ASSESSMENT_H
#define DROVER_CLI_ASSESSMENT_H

#include <jansson.h>

#include "core/preflight/estimate.h"
#include "core/preflight/preflight.h"
#include "core/preflight/waves.h"

typedef struct {
    DroverVsphereVm *vm; /* owned */
    GPtrArray *findings; /* owned; DroverFinding */
    uint64_t used_bytes;
    DroverEstimate estimate;
    unsigned wave; /* 0: no-go */
} DroverAssessed;

void drover_assessed_free(DroverAssessed *assessed);

/* Used bytes of VM: what its files take, at most what its disks hold; without a word from vCenter all of that. */
uint64_t drover_used_bytes(const DroverVsphereVm *vm);
/* Sets wave of those that can go; VMS: DroverAssessed. Returns the number of waves. */
unsigned drover_assess_waves(GPtrArray *vms, const DroverWaveLimits *limits);

/* Newly allocated. */
char *drover_assessment_table(const GPtrArray *vms);
char *drover_assessment_csv(const GPtrArray *vms); /* RFC 4180, a heading line */
json_t *drover_assessment_json(const char *vcenter, const GPtrArray *vms);

#endif
