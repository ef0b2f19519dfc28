/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The job machine: (state, input, moment) -> (state', outputs). It decides phases, operations at the volume
 * agent, the tasks of a round, and how everything that was made is undone again. An input changes facts; then
 * the machine looks at the state and does whatever is next, so that looking again (DROVER_INPUT_TICK) never
 * does anything twice, and a new leader goes on from the records alone. Pure.
 */
#ifndef DROVER_CORE_JOB_JOB_H
#define DROVER_CORE_JOB_JOB_H

#include <glib.h>
#include <stdbool.h>

#include "core/at.h"
#include "core/job/model.h"

typedef enum {
    DROVER_INPUT_TICK,     /* time passed, or something changed around the job */
    DROVER_INPUT_CANCEL,   /* text: reason */
    DROVER_INPUT_FAILOVER, /* failover; spec (may be NULL): the job's new spec */
    DROVER_INPUT_CLEANUP,  /* keep_volumes */
    DROVER_INPUT_PAUSE,
    DROVER_INPUT_RESUME,
    DROVER_INPUT_SYNC, /* sync_type, only_interval, has_interval, interval_ms */
    DROVER_INPUT_INSPECTED,        /* disk_id, inspection */
    DROVER_INPUT_AGENT,            /* text: the home appliance */
    DROVER_INPUT_MOVE,             /* text: another home; its present one is being emptied (core/job/drain.h) */
    DROVER_INPUT_OPERATION_DONE,   /* operation_id, result */
    DROVER_INPUT_OPERATION_FAILED, /* operation_id, fault */
    DROVER_INPUT_FAULT,            /* fault: the job cannot go on */
    DROVER_INPUT_POISONED,         /* disk_id, fault: a flush failed; what was not read back is void */
    DROVER_INPUT_SOURCE_DONE,      /* action, source: a task about the source VM has ended well */
    DROVER_INPUT_SOURCE_FAILED,    /* action, fault: … was given up */
} DroverInputKind;

/* What an inspection found. */
typedef struct {
    GBytes *identity; /* drover.v1.SourceIdentity */
    const char *change_id;
    const char *format;
    uint64_t capacity_bytes;
    uint64_t allocated_bytes;
    bool extents_available;
    bool frozen;
    uint64_t bucket_bytes;
    const uint64_t *buckets;
    size_t n_buckets;
    const GArray *areas; /* DroverRange, sorted, merged: all that changed; NULL: not known, or not asked */
    const char *areas_unknown_because;
} DroverInspection;

/* What a task about the source VM told. Strings are never NULL. */
typedef struct {
    const char *severity; /* info, warning, error */
    const char *code;
    const char *message;
    int32_t key; /* 0: the whole VM */
} DroverSourceFinding;
typedef struct {
    int32_t key;
    uint64_t capacity_bytes;
    const char *datastore;
} DroverSourceDisk;
typedef struct {
    const DroverSourceFinding *findings;
    size_t n_findings;
    const DroverSourceDisk *disks; /* the job's */
    size_t n_disks;
    const int32_t *other_keys; /* the VM's other disks */
    size_t n_other_keys;
    const char *snapshot_moref;
    bool quiesced;
    int64_t snapshot_at_ms;
    const char *power_state;
    const char *host;
    const char *firmware;
    bool secure_boot;
    const char *guest_id;
} DroverSourceReport;

/* What an operation yielded; NULL counts as "". */
typedef struct {
    const char *volume_id;
    const char *vm_id;
    const char *vm_state;
    const char *device_path;
    uint64_t device_size_bytes;
    const char *export_name;
    uint64_t generation;
    const char *token;
    const char *nbd_host;
    uint32_t nbd_port;
} DroverOperationResult;

typedef struct {
    DroverInputKind kind;
    const char *text;
    const char *disk_id;
    const char *operation_id;
    const DroverInspection *inspection;
    const DroverOperationResult *result;
    const DroverSourceReport *source;
    int action; /* DroverSourceAction */
    const DroverFault *fault;
    DroverFailoverKind failover;
    GBytes *spec;
    bool keep_volumes;
    int sync_type; /* DroverSyncType; 0: the source's choice */
    bool only_interval;
    bool has_interval;
    uint64_t interval_ms;
} DroverInput;

typedef enum {
    DROVER_OUTPUT_OPERATION, /* operation: send it to the job's agent */
    DROVER_OUTPUT_AUDIT,     /* level, event, message, disk_id: for the job log */
} DroverOutputKind;

typedef struct {
    DroverOutputKind kind;
    DroverOperation *operation;
    const char *level; /* static: info, warning, error */
    const char *event; /* static, e.g. "job.state" */
    char *disk_id;
    char *message;
} DroverOutput;
GPtrArray *drover_outputs_new(void); /* of DroverOutput, frees them */
void drover_outputs_audit(GPtrArray *outputs, const char *level, const char *event, const char *disk_id,
                          const char *format, ...) G_GNUC_PRINTF(5, 6);

/* One step. Appends to OUTPUTS. Any input is allowed in any state; one that does not fit is noted and changes
 * nothing. */
void drover_job_step(DroverJob *job, const DroverInput *input, const DroverLimits *limits, const DroverAt *at,
                     GPtrArray *outputs);

/* A task's repair for the contiguous cells [FIRST, LAST]; false with a fault in the job when a cell was
 * repaired too often already. The cells become void until the repair task has checkpointed them. */
bool drover_job_repair(DroverJob *job, DroverDisk *disk, uint64_t first, uint64_t last,
                       const DroverLimits *limits, const DroverAt *at, GPtrArray *outputs);

/* The job waits for a home appliance. */
bool drover_job_wants_agent(const DroverJob *job);

/* NULL when the state obeys the rules of its phase, else what is wrong, newly allocated. For tests and
 * assertions. */
char *drover_job_check(const DroverJob *job);

/* Shows why the job does not move; "" when it does. */
void drover_job_set_stall(DroverJob *job, const char *reason);

#endif
