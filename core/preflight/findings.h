/* SPDX-License-Identifier: Apache-2.0 */
/* How the rules of a preflight say what they found. For core/preflight/. */
#ifndef DROVER_CORE_PREFLIGHT_FINDINGS_H
#define DROVER_CORE_PREFLIGHT_FINDINGS_H

#include "core/preflight/preflight.h"

typedef struct {
    const DroverVsphereVm *vm;
    GPtrArray *disks; /* const DroverVsphereDisk *, those that are to be migrated */
    const DroverPreflightFacts *more;
    GPtrArray *findings;
} DroverPreflight;

void drover_find(DroverPreflight *p, DroverSeverity severity, const char *code, int32_t disk_key, const char *format, ...)
    G_GNUC_PRINTF(5, 6);
/* Errors first; else in the order in which they were found. Takes the findings out of FINDINGS, which must not free them. */
GPtrArray *drover_findings_by_severity(GPtrArray *findings);
/* "disk 2000 (Hard disk 1)" */
char *drover_disk_words(const DroverVsphereDisk *disk);

/* False: the user may not even read what the VM is like, and what is not known must not be judged. */
bool drover_preflight_sees(const DroverPreflight *p);

/* The rules, by what they look at. */
void drover_preflight_vm(DroverPreflight *p);
void drover_preflight_tracking(DroverPreflight *p);
void drover_preflight_disks(DroverPreflight *p);
void drover_preflight_datastores(DroverPreflight *p);
void drover_preflight_place(DroverPreflight *p);
void drover_preflight_guest(DroverPreflight *p);

#endif
