/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the scheduler knows about jobs: plain structs, the same facts as the records on drover.state. Things
 * that only processes need (the source of a disk, the wanted target) stay packed messages here, so that
 * fields of newer versions pass through unharmed. Whoever changes a struct sets its "dirty" flag; the leader
 * writes dirty ones and raises their version. Everything is owned by the job. Pure; one thread at a time.
 *
 * Times: *_at_ms are Unix time; lease_*_ms are the leader's own clock, which stands still while inputs lag.
 */
#ifndef DROVER_CORE_JOB_MODEL_H
#define DROVER_CORE_JOB_MODEL_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/job/phase.h"
#include "lib/base/error.h"
#include "lib/digest/digest.h"

/* An error as a fact: error_class 0 means none. */
typedef struct {
    DroverErrorClass error_class;
    char *code;
    char *message;
} DroverFault;
void drover_fault_clear(DroverFault *fault);
/* Replaces TO by a copy of FROM. */
void drover_fault_copy(DroverFault *to, const DroverFault *from);
void drover_fault_set(DroverFault *fault, DroverErrorClass error_class, const char *code, const char *format,
                      ...) G_GNUC_PRINTF(4, 5);

/* Values equal drover.v1.SyncType; 0: not decided yet, or a record of an older version (full). */
typedef enum { DROVER_SYNC_FULL = 1, DROVER_SYNC_INCREMENTAL = 2, DROVER_SYNC_DEEP_VERIFY = 3 } DroverSyncType;
const char *drover_sync_type_name(int sync_type); /* "full", "incremental", "deep-verify" */

/* As drover.v1.ByteCounts; bytes. */
typedef struct {
    uint64_t data;
    uint64_t zero_found;
    uint64_t skipped;
    uint64_t resent;
    uint64_t read;
} DroverCounts;

/* ---- tasks ---- values equal drover.v1.TaskKind and TaskStatus */

typedef enum {
    DROVER_TASK_INSPECT = 1,
    DROVER_TASK_COPY = 2,
    DROVER_TASK_REPAIR = 3,
    DROVER_TASK_SOURCE_VM = 4, /* of the whole job; listed under its first disk */
} DroverTaskKind;
/* What a DROVER_TASK_SOURCE_VM does; values equal drover.v1.SourceVmAction. */
typedef enum {
    DROVER_SOURCE_PREFLIGHT = 1,
    DROVER_SOURCE_SNAPSHOT = 2,
    DROVER_SOURCE_REMOVE_SNAPSHOT = 3,
    DROVER_SOURCE_POWER_OFF = 4,
    DROVER_SOURCE_POWER_ON = 5,
    DROVER_SOURCE_LOOK = 6,
} DroverSourceAction;
typedef enum {
    DROVER_TASK_READY = 1,
    DROVER_TASK_ASSIGNED = 2,
    DROVER_TASK_CLAIMED = 3,
    DROVER_TASK_COPIED = 4,
    DROVER_TASK_DONE = 5,
    DROVER_TASK_FAILED = 6,
    DROVER_TASK_CANCELLED = 7,
} DroverTaskStatus;

/* A checkpoint record that must be tombstoned when the task has ended. */
typedef struct {
    char *key;
    int32_t partition;
} DroverCheckpointKey;

typedef struct {
    char *task_id;
    DroverTaskKind kind;
    int action; /* DroverSourceAction, or 0 */
    DroverTaskStatus status;
    uint32_t round;
    uint32_t attempt;
    uint32_t failures;
    char *owner_process;  /* "" while nobody has it */
    char *owner_instance; /* "" until claimed */
    int32_t partition;
    DroverRange range; /* {0, 0} for inspect tasks */
    GArray *areas;     /* DroverRange, merged, inside the range: all that is copied; NULL: the whole range */
    uint64_t planned_bytes;
    DroverCounts counts;
    uint64_t generation;
    DroverFault error;
    int64_t updated_at_ms;
    int64_t not_before_at_ms;
    uint64_t version;
    bool dirty;
    /* not in the record */
    int64_t lease_since_ms;  /* assigned: since then; claimed: last sign of life */
    GArray *checkpoint_keys; /* of DroverCheckpointKey */
} DroverTask;

/* ---- ledger and operations */

typedef enum {
    DROVER_LEDGER_VOLUME = 1,
    DROVER_LEDGER_ATTACHMENT = 2,
    DROVER_LEDGER_EXPORT = 3,
    DROVER_LEDGER_VM = 4,
    DROVER_LEDGER_SNAPSHOT = 5,     /* of the source VM; operation_id is its name */
    DROVER_LEDGER_SOURCE_POWER = 7, /* the source VM is off and guarded */
} DroverLedgerKind;

typedef struct {
    int kind; /* DroverLedgerKind; values of newer versions are kept */
    char *disk_id;
    char *object_id; /* "" while only intended */
    char *operation_id;
    char *agent;
    int64_t at_ms;
    /* not in the record */
    uint32_t undo_failures;
    int64_t undo_not_before_ms;
} DroverLedgerEntry;

typedef enum { /* field numbers of drover.v1.VolumeOperation.operation */
               DROVER_OP_CREATE_VOLUME = 10,
               DROVER_OP_ATTACH_VOLUME = 11,
               DROVER_OP_DETACH_VOLUME = 12,
               DROVER_OP_DELETE_VOLUME = 13,
               DROVER_OP_OPEN_EXPORT = 14,
               DROVER_OP_CLOSE_EXPORT = 15,
               DROVER_OP_DEPLOY_VM = 16,
               DROVER_OP_SWAP_ROOT = 17,
               DROVER_OP_ATTACH_TO_VM = 18,
               DROVER_OP_START_VM = 19,
               DROVER_OP_STOP_VM = 20,
               DROVER_OP_DESTROY_VM = 21,
               DROVER_OP_PREFLIGHT_TARGET = 60,
} DroverOpKind;
const char *drover_op_name(DroverOpKind kind); /* "create-volume", … */

/* One pending operation. What it needs beyond these fields comes from the job's and the disk's spec. */
typedef struct {
    char *operation_id;
    DroverOpKind kind;
    char *disk_id; /* "" for the whole VM */
    char *volume_id;
    char *vm_id;
    char *custom_id;     /* create, deploy: the same for every repetition */
    uint64_t size_bytes; /* create: size; attach, open: the least size */
    uint64_t generation;
    uint32_t device_id;
    bool forced;
    bool undo;
    int64_t requested_at_ms;
} DroverOperation;

/* ---- disks */

typedef enum {
    DROVER_SYNC_PENDING,
    DROVER_SYNC_INSPECTING,
    DROVER_SYNC_PREPARING,
    DROVER_SYNC_COPYING,
    DROVER_SYNC_VERIFYING,
    DROVER_SYNC_COMPLETED,
    DROVER_SYNC_FAILED,
} DroverSyncStatus;
const char *drover_sync_status_name(DroverSyncStatus status); /* "pending", … */

struct DroverCells;  /* core/task/cells.h */
struct DroverVerify; /* core/task/verify.h */

typedef struct {
    char *disk_id;
    uint64_t version;
    bool dirty;
    GBytes *spec;               /* drover.v1.DiskSpec */
    GBytes *identity;           /* drover.v1.SourceIdentity; NULL before the inspection */
    uint64_t wanted_size_bytes; /* 0: the source's size rounded up to GiB */
    char *format;
    uint64_t capacity_bytes; /* 0 before the inspection */
    uint64_t allocated_bytes;
    bool extents_available;
    uint64_t bucket_bytes;
    GArray *buckets; /* uint64_t, allocated bytes of each */
    char *volume_id;
    uint64_t target_size_bytes;
    char *device_path; /* "" while not attached to the appliance */
    char *export_name;
    uint64_t generation;
    bool export_open;
    char *nbd_host;
    uint32_t nbd_port;
    uint32_t round;
    char *change_id;
    char *previous_change_id;
    char *receipt;
    char *round_digest;
    uint64_t range_bytes;
    DroverSyncStatus sync_status;
    DroverCounts final_counts;
    bool diverged;
    uint32_t repaired_cells;
    uint64_t verified_bytes;
    char *vm_id;      /* the target VM that holds the volume; "" for none */
    char *previous_receipt;
    char *found_change_id; /* of the round under way: change_id when it is final */
    int sync_type;         /* DroverSyncType of the current or last round; 0 until it is decided */
    char *base_change_id;  /* where a round that was cut short stood; "": change_id counts */
    GArray *carried;       /* DroverRange, sorted: what that round left to copy; NULL: none */
    int32_t source_key;    /* from the spec: VirtualDevice.key of a VM's disk */
    char *datastore;       /* moref of the source's; "" while not known */
    GPtrArray *tasks; /* DroverTask */
    /* not in the record */
    GPtrArray *retired; /* ids of tasks of earlier rounds whose records must be tombstoned */
    char *token; /* of token_generation, from the agent's journal; NULL while unknown */
    uint64_t token_generation;
    struct DroverCells *cells;   /* NULL outside of a round */
    struct DroverVerify *verify; /* NULL outside of a round */
    uint32_t op_failures;
    int64_t op_not_before_ms;
} DroverDisk;

/* One finished round of a job. */
typedef struct {
    uint32_t round;
    int sync_type;
    int64_t started_at_ms;
    int64_t finished_at_ms;
    uint64_t planned_bytes;
    uint64_t moved_bytes;
} DroverRoundSummary;
#define DROVER_ROUNDS_KEPT 50u
#define DROVER_ROUND_INTERVAL_MIN_MS 1000

/* ---- the source VM: a job's disks all belong to one VM of a vCenter, or to none */

typedef struct {
    bool present;
    /* from the spec */
    char *vcenter;
    char *vm_moref;
    char *vm_uuid;
    bool keep_on; /* a failover leaves the VM's power alone */
    uint64_t snapshot_max_age_ms;
    /* as last told by a worker */
    char *host;        /* moref */
    char *power_state; /* before we changed it */
    char *firmware; /* bios or efi */
    bool secure_boot;
    char *guest_id; /* as vSphere calls it */
    int64_t snapshot_at_ms;
    bool quiesced;
    GArray *other_disks; /* int32_t, keys of disks that the job leaves out; NULL while not known */
    /* not in the record: a new leader looks again */
    int64_t looked_at_ms;
    char *short_of_room; /* which datastore has too little room for a snapshot to grow; "": none */
} DroverSourceVm;
/* Replaces TO's facts from the spec by FROM's. */
void drover_source_vm_copy(DroverSourceVm *to, const DroverSourceVm *from);
void drover_source_vm_clear(DroverSourceVm *source);
#define DROVER_SNAPSHOT_MAX_AGE_MS (INT64_C(24) * 3600 * 1000)

/* ---- the job */

typedef enum {
    DROVER_FAILOVER_NONE = 0,
    DROVER_FAILOVER_LIVE = 1,
    DROVER_FAILOVER_TEST = 2
} DroverFailoverKind;

typedef struct {
    char *job_id;
    uint64_t version;
    bool dirty;
    GBytes *spec; /* drover.v1.JobSpec */
    /* read from the spec */
    char *name;
    char *site;
    char *wanted_agent; /* "" : any */
    DroverDigestAlgorithm digest;
    uint64_t bandwidth_limit; /* bytes per second; 0: unlimited */
    uint64_t range_bytes;     /* 0: the planner's choice */
    uint32_t priority;

    DroverPhase phase;
    DroverPhase after_cleaning; /* where cleaning returns to */
    bool keep_volumes;          /* the undoing leaves the volumes */
    bool paused;
    bool failover_requested;
    DroverFault error;
    char *agent; /* "" until chosen */
    char *moving_to; /* another home that it leaves this one for; "": it stays. Not in the record: a new leader decides anew */
    uint32_t round;
    int sync_type; /* wanted for the current or last round */
    uint64_t round_interval_ms;
    bool deep_verify_before_cutover;
    int64_t round_started_at_ms;
    int64_t replicated_until_ms; /* the recovery point; 0: none yet */
    GArray *rounds;              /* DroverRoundSummary, oldest first */
    int64_t created_at_ms;
    int64_t updated_at_ms;
    int64_t started_at_ms;
    int64_t completed_at_ms;
    int64_t phase_started_at_ms[DROVER_PHASE_LAST + 1];
    GPtrArray *ledger;     /* DroverLedgerEntry, in the order of making */
    GPtrArray *operations; /* DroverOperation, pending */
    uint32_t operation_counter;
    DroverFailoverKind failover_kind;
    char *failover_status; /* "" or as drover.v1.FailoverState.status */
    char *vm_id;
    char *vm_name;
    char *vm_state;
    int64_t failover_started_at_ms;
    int64_t failover_completed_at_ms;
    char *stall_reason;
    uint32_t setup_percent;
    DroverSourceVm source;
    bool final_round; /* the round under way, or the last one, is over a source VM that was switched off */
    GPtrArray *disks; /* DroverDisk, in the target's order */
    /* not in the record */
    bool target_checked; /* whether the job fits there; asked again after a take-over */
    uint32_t vm_op_failures;
    int64_t vm_op_not_before_ms;
    bool control_dirty; /* the snapshot on drover.control is out of date */
    uint64_t control_version;
} DroverJob;

DroverJob *drover_job_new(const char *job_id);
void drover_job_free(DroverJob *job);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverJob, drover_job_free)

/* Appends an empty disk. */
DroverDisk *drover_job_add_disk(DroverJob *job, const char *disk_id);
DroverDisk *drover_job_disk(const DroverJob *job, const char *disk_id); /* NULL: unknown */
/* Appends a READY task. */
DroverTask *drover_disk_add_task(DroverDisk *disk, const char *task_id, DroverTaskKind kind);
DroverTask *drover_disk_task(const DroverDisk *disk, const char *task_id);
DroverTask *drover_job_task(const DroverJob *job, const char *task_id, DroverDisk **disk);

void drover_operation_free(DroverOperation *operation);
DroverOperation *drover_operation_copy(const DroverOperation *operation);

/* Replaces *FIELD by a copy of VALUE (NULL counts as ""); true when that changed it. */
bool drover_set_string(char **field, const char *value);

/* ASSIGNED or CLAIMED: somebody may be at it. */
bool drover_task_is_live(const DroverTask *task);
/* DONE, FAILED or CANCELLED. */
bool drover_task_is_ended(const DroverTask *task);
bool drover_task_moves_data(const DroverTask *task); /* COPY or REPAIR */

#endif
