/* SPDX-License-Identifier: Apache-2.0 */
/* The only place of the worker that knows the generated message types. Pure: bytes in, structs out, and back. */
#ifndef DROVER_WORKER_CODEC_H
#define DROVER_WORKER_CODEC_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "worker/copy/copy.h"
#include "worker/task.h"

/* Who reports. */
typedef struct {
    const char *process_id;
    const char *instance_id;
    const char *site;
} DroverReporterName;

/*
 * A task from its bytes, or NULL with a PERMANENT error (DRV-TASK-INVALID). *HEADER (may be NULL) gets a task without
 * body when at least the ids and the attempt could be read, so that the failure can be reported to the job.
 */
DroverTask *drover_codec_task(const uint8_t *data, size_t len, DroverTask **header, GError **error);
DroverJobControl *drover_codec_control(const uint8_t *data, size_t len, GError **error);

/* Events about TASK (drover.events.<site>). */
GBytes *drover_codec_claimed(const DroverReporterName *name, const DroverTask *task);
GBytes *drover_codec_released(const DroverReporterName *name, const DroverTask *task, const char *reason);
GBytes *drover_codec_failed(const DroverReporterName *name, const DroverTask *task, const GError *failure,
                            const DroverRange *failed_range);
typedef struct {
    DroverByteCounts counts; /* of the whole task */
    uint64_t checkpoints;
    bool extents_available;
    uint64_t duration_ms;
    uint32_t reconnects;
} DroverFinished;
GBytes *drover_codec_finished(const DroverReporterName *name, const DroverTask *task, const DroverFinished *finished);
typedef struct {
    const DroverSourceIdentity *identity;
    const char *format;
    uint64_t capacity_bytes;
    uint64_t allocated_bytes;
    bool extents_available;
    uint64_t bucket_bytes;
    const uint64_t *bucket_allocated_bytes;
    size_t n_buckets;
    bool frozen;
    bool areas_known;
    const GArray *areas; /* DroverRange, merged; NULL unless areas_known */
    const char *areas_unknown_because; /* "" unless asked for and not known */
} DroverInspected;
GBytes *drover_codec_inspected(const DroverReporterName *name, const DroverTask *task,
                               const DroverInspected *inspected);

/* A finding of a preflight. */
typedef struct {
    const char *severity; /* info, warning, error */
    const char *code;
    const char *message;
    int32_t disk_key; /* 0: the whole VM */
} DroverVmFinding;
typedef struct {
    int32_t disk_key;
    uint64_t capacity_bytes;
    const char *change_id;
    const char *backing_path;
    const char *datastore;
    uint64_t committed_bytes;
} DroverVmDisk;
/* How a source VM task ended. Strings are never NULL. */
typedef struct {
    const DroverVmFinding *findings;
    size_t n_findings;
    const char *snapshot_moref;
    bool quiesced;
    const DroverVmDisk *disks;
    size_t n_disks;
    const char *power_state;
    const char *host;
    int64_t snapshot_at_ms;
    const char *firmware; /* bios or efi */
    bool secure_boot;
    const char *guest_id;
    const int32_t *other_keys; /* disks of the VM that are not the job's */
    size_t n_other_keys;
} DroverVmResult;
GBytes *drover_codec_source_vm(const DroverReporterName *name, const DroverTask *task, const DroverVmResult *result);
/* Something worth the job's log. LEVEL is info, warning or error. */
GBytes *drover_codec_notice(const DroverReporterName *name, const DroverTask *task, const char *level,
                            const char *event, const char *message);

GBytes *drover_codec_checkpoint(const DroverReporterName *name, const DroverTask *task, uint64_t sequence,
                                const DroverCopyCell *cells, size_t n);

typedef struct {
    uint64_t sequence;
    DroverByteCounts counts;
    uint64_t rate_bytes_per_second;
    DroverStallCause stall_cause;
    uint64_t in_flight_bytes;
} DroverTaskProgress;
GBytes *drover_codec_progress(const DroverReporterName *name, const DroverTask *task,
                              const DroverTaskProgress *progress);

typedef struct {
    const char *host;
    int64_t started_at_ms;
    uint64_t interval_ms;
    uint64_t sequence;
    bool draining;
    bool stopped;
    uint32_t copy_slots;
    uint32_t source_slots;
    const GArray *copy_partitions;   /* int32_t */
    const GArray *source_partitions; /* int32_t */
    const GPtrArray *running;        /* const DroverTask * */
} DroverWorkerHeartbeat;
GBytes *drover_codec_heartbeat(const DroverReporterName *name, const DroverWorkerHeartbeat *heartbeat);

#endif
