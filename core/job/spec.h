/* SPDX-License-Identifier: Apache-2.0 */
/* What a submission must look like, and how a job begins. Pure. */
#ifndef DROVER_CORE_JOB_SPEC_H
#define DROVER_CORE_JOB_SPEC_H

#include "core/job/job.h"

#define DROVER_DISKS_MAX 64
/* Largest packed submission: a state record may hold most of it twice (as spec and in a pending operation).
 */
#define DROVER_SPEC_MAX_BYTES (128u << 10)

typedef struct {
    const char *disk_id;     /* never empty: the reader of the message fills in the default */
    const char *source_kind; /* "file", "nbd", "vsphere"; "" when none or unknown */
    const char *source;      /* what makes the source unique within its kind, e.g. the path */
    const char *vm;          /* what makes the VM that the source belongs to unique; "": none */
    int32_t source_key;      /* of the disk at that VM */
    bool has_target_size;
    uint64_t target_size_bytes;
    GBytes *spec; /* drover.v1.DiskSpec */
} DroverDiskRequest;

typedef struct {
    const char *job_id;
    const char *name;
    const char *site;  /* "": the only configured one */
    const char *agent; /* "": any */
    const char *submitter;
    int digest; /* as in the message; 0: xxh3 */
    bool failover;
    uint64_t bandwidth_limit;
    uint64_t range_bytes;
    uint64_t round_interval_ms;
    bool deep_verify_before_cutover;
    uint32_t priority;
    const DroverSourceVm *source; /* NULL: of no VM. Copied */
    const DroverDiskRequest *disks;
    size_t n_disks;
    GBytes *spec; /* drover.v1.JobSpec */
} DroverRequest;

/* What exists here. NULL-terminated. */
typedef struct {
    const char *const *sites;
    const char *const *agents;
} DroverPlaces;

/* False with *FAULT set (permanent, code DRV-SPEC-…) when the request cannot be a job. */
bool drover_spec_check(const DroverRequest *request, const DroverPlaces *places, DroverFault *fault);

/* A new job: in preflight, or failed at once when the request is not acceptable. REQUEST->job_id must be
 * valid. */
DroverJob *drover_job_submit(const DroverRequest *request, const DroverPlaces *places,
                             const DroverLimits *limits, const DroverAt *at, GPtrArray *outputs);

#endif
