/* SPDX-License-Identifier: Apache-2.0 */
/* Plain forms of what the leader tells a worker: tasks and control snapshots. No protobuf, no I/O. */
#ifndef DROVER_WORKER_TASK_H
#define DROVER_WORKER_TASK_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/digest/digest.h"
#include "worker/source/source.h"

typedef enum { DROVER_TASK_INSPECT = 1, DROVER_TASK_COPY = 2, DROVER_TASK_SOURCE_VM = 3 } DroverTaskKind;
/* Whether a task takes one of the copy slots, else one of the source slots. */
static inline bool drover_task_kind_copies(DroverTaskKind kind)
{
    return kind == DROVER_TASK_COPY;
}

/* Sums to the length of what was copied: data + zero_found + skipped. */
typedef struct {
    uint64_t data_bytes;
    uint64_t zero_found_bytes;
    uint64_t skipped_bytes;
    uint64_t resent_bytes;
    uint64_t read_bytes;
} DroverByteCounts;

typedef struct {
    char *volume_id;
    char *host;
    uint16_t port;
    char *export_name;
    uint64_t generation;
    char *token; /* secret */
    bool tls;    /* from the first byte; a worker may be told so by its configuration, too */
} DroverTaskTarget;

/* Values equal drover.v1.SourceVmAction. */
typedef enum {
    DROVER_VM_PREFLIGHT = 1,
    DROVER_VM_SNAPSHOT = 2,
    DROVER_VM_REMOVE_SNAPSHOT = 3,
    DROVER_VM_POWER_OFF = 4,
    DROVER_VM_POWER_ON = 5,
    DROVER_VM_LOOK = 6,
} DroverVmAction;

/* Values equal drover.v1.PowerPolicy, "unspecified" has become ASK. */
typedef enum { DROVER_POWER_ASK = 1, DROVER_POWER_FORCE = 2, DROVER_POWER_MANUAL = 3 } DroverPowerPolicy;

/* What a source VM task says. Strings are never NULL. */
typedef struct {
    char *vcenter;
    char *vm_moref;
    char *vm_uuid;
    int32_t *disk_keys; /* of the job */
    size_t n_disk_keys;
    DroverVmAction action;
    char *snapshot_name;
    char *snapshot_description;
    char *snapshot_moref; /* "": not known */
    bool crash_consistent;
    DroverPowerPolicy power_policy;
    uint64_t shutdown_timeout_ms;
    bool stay_off; /* power on: only take the guard away */
    char **full_hosts; /* preflight: ESXi hosts with TRANSFERS_PER_HOST copies; NULL-terminated */
    uint32_t transfers_per_host;
} DroverVmOrder;

/* Strings are never NULL. */
typedef struct {
    DroverTaskKind kind;
    char *task_id;
    char *job_id;
    char *disk_id;
    uint32_t round;
    uint32_t attempt;
    int64_t created_at_ms;
    int32_t partition; /* where it came from */
    DroverSourceSpec source;

    /* inspect tasks only */
    bool changed_areas;    /* asked for what differs from since_change_id */
    char *since_change_id; /* NULL unless changed_areas */

    /* source VM tasks only */
    DroverVmOrder vm;

    /* copy tasks only */
    DroverSourceIdentity identity; /* kind "": none was given */
    uint64_t capacity_bytes;
    DroverRange range;
    DroverRange *areas;
    size_t n_areas;
    uint8_t *done_cells; /* bit i (LSB first): cell range.offset / 32 MiB + i */
    size_t done_cells_len;
    DroverByteCounts done_counts;
    DroverTaskTarget target;
    DroverDigestAlgorithm digest;
    uint64_t rate_bytes_per_second; /* 0: unlimited */
    bool target_is_zero;
    bool repair;
    bool compare; /* only hash the source: the agent finds what differs at the target */
    uint64_t memory_bytes; /* 0: the worker's default */
} DroverTask;
void drover_task_free(DroverTask *task);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverTask, drover_task_free)

/* Values equal drover.v1.DesiredState. */
typedef enum { DROVER_DESIRED_RUN = 1, DROVER_DESIRED_PAUSE = 2, DROVER_DESIRED_STOP = 3 } DroverDesired;

typedef struct {
    char *task_id;
    uint32_t attempt;
    char *owner_instance; /* "": not confirmed yet */
    uint64_t rate_bytes_per_second;
    uint64_t rate_ttl_ms;
    uint64_t rate_floor_bytes_per_second;
} DroverLiveTask;

/* One job's snapshot on drover.control. */
typedef struct {
    char *job_id;
    uint64_t version;
    int64_t at_ms;
    DroverDesired desired;
    DroverLiveTask *tasks;
    size_t n_tasks;
} DroverJobControl;
void drover_job_control_free(DroverJobControl *control);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverJobControl, drover_job_control_free)

#endif
