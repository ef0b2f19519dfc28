/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the messages of drover.v1 and the structs of core/. The generated types stay in the codec files.
 * What comes from outside is checked here: a message that cannot be parsed, holds an unknown required value
 * or text that is not UTF-8 is refused with a PERMANENT error that says so. Unknown fields of submissions
 * pass through.
 */
#ifndef DROVER_SCHEDULER_CODEC_H
#define DROVER_SCHEDULER_CODEC_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/task/cells.h"
#include "core/dispatch/fleet.h"
#include "core/dispatch/grants.h"
#include "core/job/job.h"
#include "core/job/model.h"
#include "core/job/spec.h"
#include "core/task/verify.h"

/* ---- state records (codec_state.c): each a packed StateRecord */

GBytes *codec_job_state(const DroverJob *job);
GBytes *codec_disk_state(const DroverJob *job, const DroverDisk *disk);
GBytes *codec_task_state(const DroverJob *job, const DroverDisk *disk, const DroverTask *task);

/* Keys of state records; newly allocated. */
char *codec_job_key(const DroverJob *job);
char *codec_disk_key(const DroverJob *job, const DroverDisk *disk);
char *codec_task_key(const DroverJob *job, const DroverDisk *disk, const DroverTask *task);

/* OFFSETS: "topic/partition" -> int64_t *. */
GBytes *codec_offsets(GHashTable *offsets, const char *leader, int64_t now_ms);

typedef enum {
    CODEC_STATE_JOB,
    CODEC_STATE_DISK,
    CODEC_STATE_TASK,
    CODEC_STATE_OFFSETS,
    CODEC_STATE_OTHER
} CodecStateKind;
/* What a state record holds. */
bool codec_state_kind(const uint8_t *value, size_t len, CodecStateKind *kind, GError **error);
/* Records of jobs first, then of disks, then of tasks: each needs the one before. A record whose owner is not
 * known is skipped. JOBS: job_id -> DroverJob. */
bool codec_load_job(const uint8_t *value, size_t len, GHashTable *jobs, GError **error);
bool codec_load_disk(const uint8_t *value, size_t len, GHashTable *jobs, GError **error);
bool codec_load_task(const uint8_t *value, size_t len, GHashTable *jobs, GError **error);
bool codec_load_offsets(const uint8_t *value, size_t len, GHashTable *offsets, GError **error);

/* ---- commands (codec_command.c) */

typedef enum { CODEC_COMMAND_SUBMIT, CODEC_COMMAND_INPUT } CodecCommandKind;
typedef struct {
    CodecCommandKind kind;
    char *job_id;
    DroverRequest request; /* submit; its strings live as long as the command */
    DroverSourceVm source; /* the request's */
    DroverInput input;     /* the others */
    void *message;
    GPtrArray *held;
} CodecCommand;
/* DEFAULT_SITE (NULL for none) is written into submissions that name no site. */
CodecCommand *codec_command(const uint8_t *value, size_t len, const char *default_site, GError **error);
void codec_command_free(CodecCommand *command);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CodecCommand, codec_command_free)

/* The job's spec with the target's fields overridden by those set in a FailoverJob (COMMAND); NULL when none
 * is. */
GBytes *codec_override_target(const DroverJob *job, const CodecCommand *command);

/* Takes from the job's spec what the machine works with (name, site, …); for records that are loaded. */
bool codec_read_spec(DroverJob *job, GError **error);

/* ---- reports of workers and agents (codec_report.c) */

typedef enum {
    CODEC_EVENT_CLAIMED,
    CODEC_EVENT_FINISHED,
    CODEC_EVENT_FAILED,
    CODEC_EVENT_RELEASED,
    CODEC_EVENT_INSPECTED,
    CODEC_EVENT_SOURCE_VM,
    CODEC_EVENT_VERIFIED,
    CODEC_EVENT_NOTICE,
    CODEC_EVENT_OTHER, /* of a newer version: nothing to do */
} CodecEventKind;
typedef struct {
    CodecEventKind kind;
    const char *job_id;
    const char *disk_id;
    const char *task_id;
    uint32_t attempt;
    const char *process_id;
    const char *instance_id;
    DroverFault fault;           /* failed; verified: error_class 0 when it could be compared */
    DroverCounts counts;         /* finished */
    const char *reason;          /* released */
    DroverInspection inspection; /* inspected */
    GArray *areas;               /* held for inspection.areas */
    DroverSourceReport source;   /* source VM */
    GPtrArray *held;             /* for source */
    uint64_t generation;         /* verified, and the next ones */
    uint64_t sequence;
    const uint64_t *verified;
    size_t n_verified;
    const uint64_t *mismatched;
    size_t n_mismatched;
    void *message;
} CodecEvent;
CodecEvent *codec_event(const uint8_t *value, size_t len, GError **error);
void codec_event_free(CodecEvent *event);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CodecEvent, codec_event_free)

typedef struct {
    DroverCheckpoint checkpoint; /* key and partition are the caller's to fill in */
    char *job_id;
    char *disk_id;
    GArray *cells; /* DroverCellDone */
    GPtrArray *held;
    void *message;
} CodecCheckpoint;
CodecCheckpoint *codec_checkpoint(const uint8_t *value, size_t len, GError **error);
void codec_checkpoint_free(CodecCheckpoint *checkpoint);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CodecCheckpoint, codec_checkpoint_free)

typedef enum {
    CODEC_JOURNAL_PENDING,
    CODEC_JOURNAL_DONE,
    CODEC_JOURNAL_FAILED,
    CODEC_JOURNAL_EXPORT
} CodecJournalKind;
typedef struct {
    CodecJournalKind kind; /* PENDING: nothing to learn from it */
    const char *job_id;
    const char *operation_id;
    DroverOperationResult result; /* export: volume_id, generation, token */
    DroverFault fault;
    void *message;
} CodecJournal;
CodecJournal *codec_journal(const uint8_t *value, size_t len, GError **error);
void codec_journal_free(CodecJournal *journal);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CodecJournal, codec_journal_free)

/* *AT_MS: when it was sent. */
DroverProcess *codec_heartbeat(const uint8_t *value, size_t len, int64_t *at_ms, GError **error);

/* ---- what the leader sends (codec_task.c): packed messages */

GBytes *codec_inspect_task(const DroverJob *job, const DroverDisk *disk, const DroverTask *task,
                           int64_t now_ms);
/* FULL_HOSTS: ESXi hosts with TRANSFERS_PER_HOST copies, what a preflight tells; NULL: none. */
GBytes *codec_source_vm_task(const DroverJob *job, const DroverDisk *disk, const DroverTask *task,
                             const char *const *full_hosts, uint32_t transfers_per_host, int64_t now_ms);
/* RATE: bytes per second, 0 unlimited. The disk's export must be open and its token known. */
GBytes *codec_copy_task(const DroverJob *job, const DroverDisk *disk, const DroverTask *task, uint64_t rate,
                        int64_t now_ms);
GBytes *codec_operation_task(const DroverJob *job, const DroverOperation *operation, int64_t now_ms);
GBytes *codec_verify_task(const DroverJob *job, const DroverDisk *disk, const DroverVerifyBatch *batch,
                          int64_t now_ms);
GBytes *codec_audit(const DroverJob *job, const DroverOutput *output, const char *process_id, int64_t now_ms);

/* RATES: "<task_id>/<attempt>" -> DroverGrant *, NULL when the job is unlimited. */
GBytes *codec_control(const DroverJob *job, GHashTable *rates, uint64_t floor, int64_t ttl_ms,
                      const char *leader, int64_t now_ms);
/* The version of a control record, and its unexpired grants: calls HOLD for each. */
bool codec_read_control(const uint8_t *value, size_t len, char **job_id, uint64_t *version,
                        void (*hold)(const char *holder, uint64_t rate, void *data), void *data,
                        GError **error);

typedef struct {
    const char *process_id;
    const char *instance_id;
    int64_t started_at_ms;
    int64_t interval_ms;
    uint64_t sequence;
    bool draining;
    bool stopped;
    bool leader;
    uint64_t jobs_active;
    uint64_t tasks_ready;
    uint64_t tasks_running;
} CodecBeat;
GBytes *codec_beat(const CodecBeat *beat, int64_t now_ms);

#endif
