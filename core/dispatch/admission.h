/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many copies may run at a time towards one home appliance, and from one ESXi host, vCenter, datastore and disk of a
 * VM, over all workers: too many sessions exhaust a host's NFC buffers, and take its other users down with them. Pure.
 */
#ifndef DROVER_CORE_DISPATCH_ADMISSION_H
#define DROVER_CORE_DISPATCH_ADMISSION_H

#include "core/at.h"
#include "core/job/model.h"

typedef struct {
    const DroverLimits *limits;
    GHashTable *running; /* "target/appliance-1", "host/vc1/host-9", … -> number of copies */
} DroverAdmission;

DroverAdmission *drover_admission_new(const DroverLimits *limits);
void drover_admission_free(DroverAdmission *admission);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverAdmission, drover_admission_free)

/* With all copies that run now. JOBS: DroverJob. */
DroverAdmission *drover_admission_of(GPtrArray *jobs, const DroverLimits *limits);

/* One more copy of DISK runs. */
void drover_admission_count(DroverAdmission *admission, const DroverJob *job, const DroverDisk *disk);
/* The ESXi hosts of VCENTER that are at their limit: morefs, newly allocated, NULL-terminated. JOBS: those that were counted. */
GStrv drover_admission_full_hosts(const DroverAdmission *admission, GPtrArray *jobs, const char *vcenter);
/* NULL when one more copy of DISK may run, else what has reached its limit, for people; newly allocated. */
char *drover_admission_refuse(const DroverAdmission *admission, const DroverJob *job, const DroverDisk *disk);

#endif
