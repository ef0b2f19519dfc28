/* SPDX-License-Identifier: Apache-2.0 */
/* Structs to messages: events, checkpoints, progress, heartbeats. */
#include <string.h>
#include <unistd.h>

#include "drover/v1/event.pb-c.h"
#include "drover/v1/fleet.pb-c.h"
#include "lib/base/ids.h"
#include "worker/codec.h"

static GBytes *pack(const ProtobufCMessage *message)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    uint8_t *data = g_malloc(len + 1);
    protobuf_c_message_pack(message, data);
    return g_bytes_new_take(data, len);
}

static void event_head(Drover__V1__Event *event, const DroverReporterName *name, const DroverTask *task)
{
    drover__v1__event__init(event);
    event->job_id = task->job_id;
    event->disk_id = task->disk_id;
    event->task_id = task->task_id;
    event->attempt = task->attempt;
    event->round = task->round;
    event->process_id = (char *)name->process_id;
    event->instance_id = (char *)name->instance_id;
    event->at_ms = drover_now_ms();
}

static void put_counts(Drover__V1__ByteCounts *to, const DroverByteCounts *from)
{
    drover__v1__byte_counts__init(to);
    to->data_bytes = from->data_bytes;
    to->zero_found_bytes = from->zero_found_bytes;
    to->skipped_bytes = from->skipped_bytes;
    to->resent_bytes = from->resent_bytes;
    to->read_bytes = from->read_bytes;
}

GBytes *drover_codec_claimed(const DroverReporterName *name, const DroverTask *task)
{
    Drover__V1__Event event;
    Drover__V1__TaskClaimed body = DROVER__V1__TASK_CLAIMED__INIT;
    event_head(&event, name, task);
    body.partition = task->partition;
    event.body_case = DROVER__V1__EVENT__BODY_CLAIMED;
    event.claimed = &body;
    return pack(&event.base);
}

GBytes *drover_codec_released(const DroverReporterName *name, const DroverTask *task, const char *reason)
{
    Drover__V1__Event event;
    Drover__V1__TaskReleased body = DROVER__V1__TASK_RELEASED__INIT;
    event_head(&event, name, task);
    body.reason = (char *)reason;
    event.body_case = DROVER__V1__EVENT__BODY_RELEASED;
    event.released = &body;
    return pack(&event.base);
}

GBytes *drover_codec_failed(const DroverReporterName *name, const DroverTask *task, const GError *failure,
                            const DroverRange *failed_range)
{
    Drover__V1__Event event;
    Drover__V1__TaskFailed body = DROVER__V1__TASK_FAILED__INIT;
    Drover__V1__Error error = DROVER__V1__ERROR__INIT;
    Drover__V1__Range range = DROVER__V1__RANGE__INIT;
    event_head(&event, name, task);
    g_autofree char *redacted = drover_redact(failure->message);
    g_autofree char *message = g_utf8_make_valid(redacted, -1); /* file names are bytes, proto3 strings are not */
    g_autofree char *code = drover_error_code(message);
    error.error_class = (Drover__V1__ErrorClass)drover_error_class(failure);
    error.code = code;
    error.message = message;
    body.error = &error;
    if (failed_range != NULL && failed_range->length > 0) {
        range.offset = failed_range->offset;
        range.length = failed_range->length;
        body.failed_range = &range;
    }
    event.body_case = DROVER__V1__EVENT__BODY_FAILED;
    event.failed = &body;
    return pack(&event.base);
}

GBytes *drover_codec_finished(const DroverReporterName *name, const DroverTask *task, const DroverFinished *finished)
{
    Drover__V1__Event event;
    Drover__V1__TaskFinished body = DROVER__V1__TASK_FINISHED__INIT;
    Drover__V1__ByteCounts counts;
    event_head(&event, name, task);
    put_counts(&counts, &finished->counts);
    body.counts = &counts;
    body.checkpoints = finished->checkpoints;
    body.extents_available = finished->extents_available;
    body.duration_ms = finished->duration_ms;
    body.reconnects = finished->reconnects;
    event.body_case = DROVER__V1__EVENT__BODY_FINISHED;
    event.finished = &body;
    return pack(&event.base);
}

/* As pairs of gap and length: tens of thousands of areas fit into one message. */
static uint64_t *area_deltas(const GArray *areas, size_t *n)
{
    uint64_t *deltas = g_new(uint64_t, 2 * (size_t)areas->len + 1), end = 0;
    *n = 0;
    for (guint i = 0; i < areas->len; i++) {
        const DroverRange *area = &g_array_index(areas, DroverRange, i);
        deltas[(*n)++] = area->offset - end;
        deltas[(*n)++] = area->length;
        end = area->offset + area->length;
    }
    return deltas;
}

GBytes *drover_codec_inspected(const DroverReporterName *name, const DroverTask *task,
                               const DroverInspected *inspected)
{
    Drover__V1__Event event;
    Drover__V1__InspectResult body = DROVER__V1__INSPECT_RESULT__INIT;
    Drover__V1__SourceIdentity identity = DROVER__V1__SOURCE_IDENTITY__INIT;
    event_head(&event, name, task);
    identity.kind = inspected->identity->kind;
    identity.device_inode = inspected->identity->device_inode;
    identity.change_id = inspected->identity->change_id;
    identity.file_size_bytes = inspected->identity->file_size_bytes;
    identity.mtime_ns = inspected->identity->mtime_ns;
    body.identity = &identity;
    body.format = (char *)inspected->format;
    body.capacity_bytes = inspected->capacity_bytes;
    body.allocated_bytes = inspected->allocated_bytes;
    body.extents_available = inspected->extents_available;
    body.bucket_bytes = inspected->bucket_bytes;
    body.n_bucket_allocated_bytes = inspected->n_buckets;
    body.bucket_allocated_bytes = (uint64_t *)inspected->bucket_allocated_bytes;
    body.frozen = inspected->frozen;
    body.areas_known = inspected->areas_known;
    g_autofree uint64_t *deltas = NULL;
    if (inspected->areas_known)
        body.area_deltas = deltas = area_deltas(inspected->areas, &body.n_area_deltas);
    if (inspected->areas_unknown_because != NULL)
        body.areas_unknown_because = (char *)inspected->areas_unknown_because;
    event.body_case = DROVER__V1__EVENT__BODY_INSPECTED;
    event.inspected = &body;
    return pack(&event.base);
}

/* Names of VMs, disks and datastores come from vCenter: proto3 strings must be UTF-8. */
static char *valid_text(const char *text)
{
    g_autofree char *redacted = drover_redact(text);
    return g_utf8_make_valid(redacted, -1);
}

static void put_findings(Drover__V1__SourceVmResult *body, const DroverVmResult *result)
{
    body->n_findings = result->n_findings;
    body->findings = g_new0(Drover__V1__Finding *, result->n_findings + 1);
    for (size_t i = 0; i < result->n_findings; i++) {
        Drover__V1__Finding *finding = body->findings[i] = g_new(Drover__V1__Finding, 1);
        drover__v1__finding__init(finding);
        finding->severity = (char *)result->findings[i].severity;
        finding->code = (char *)result->findings[i].code;
        finding->message = valid_text(result->findings[i].message);
        finding->disk_key = result->findings[i].disk_key;
    }
}

static void put_vm_disks(Drover__V1__SourceVmResult *body, const DroverVmResult *result)
{
    body->n_disks = result->n_disks;
    body->disks = g_new0(Drover__V1__SourceVmDisk *, result->n_disks + 1);
    for (size_t i = 0; i < result->n_disks; i++) {
        Drover__V1__SourceVmDisk *disk = body->disks[i] = g_new(Drover__V1__SourceVmDisk, 1);
        drover__v1__source_vm_disk__init(disk);
        disk->disk_key = result->disks[i].disk_key;
        disk->capacity_bytes = result->disks[i].capacity_bytes;
        disk->change_id = (char *)result->disks[i].change_id;
        disk->backing_path = g_utf8_make_valid(result->disks[i].backing_path, -1);
        disk->datastore = (char *)result->disks[i].datastore;
        disk->committed_bytes = result->disks[i].committed_bytes;
    }
}

GBytes *drover_codec_source_vm(const DroverReporterName *name, const DroverTask *task, const DroverVmResult *result)
{
    Drover__V1__Event event;
    Drover__V1__SourceVmResult body = DROVER__V1__SOURCE_VM_RESULT__INIT;
    event_head(&event, name, task);
    body.action = (int32_t)task->vm.action;
    put_findings(&body, result);
    put_vm_disks(&body, result);
    body.snapshot_moref = (char *)result->snapshot_moref;
    body.quiesced = result->quiesced;
    body.power_state = (char *)result->power_state;
    body.host = (char *)result->host;
    body.snapshot_at_ms = result->snapshot_at_ms;
    body.firmware = (char *)result->firmware;
    body.secure_boot = result->secure_boot;
    body.guest_id = (char *)result->guest_id;
    body.other_disk_keys = (int32_t *)result->other_keys;
    body.n_other_disk_keys = result->n_other_keys;
    event.body_case = DROVER__V1__EVENT__BODY_SOURCE_VM;
    event.source_vm = &body;
    GBytes *bytes = pack(&event.base);
    for (size_t i = 0; i < body.n_findings; i++) {
        g_free(body.findings[i]->message);
        g_free(body.findings[i]);
    }
    for (size_t i = 0; i < body.n_disks; i++) {
        g_free(body.disks[i]->backing_path);
        g_free(body.disks[i]);
    }
    g_free(body.findings);
    g_free(body.disks);
    return bytes;
}

GBytes *drover_codec_notice(const DroverReporterName *name, const DroverTask *task, const char *level,
                            const char *event_name, const char *message)
{
    Drover__V1__Event event;
    Drover__V1__Notice body = DROVER__V1__NOTICE__INIT;
    event_head(&event, name, task);
    g_autofree char *text = valid_text(message);
    body.level = (char *)level;
    body.event = (char *)event_name;
    body.message = text;
    event.body_case = DROVER__V1__EVENT__BODY_NOTICE;
    event.notice = &body;
    return pack(&event.base);
}

static void put_ranges(Drover__V1__CellDone *to, const DroverCopyCell *from)
{
    to->n_ranges = from->n_ranges;
    to->ranges = g_new0(Drover__V1__Range *, from->n_ranges + 1);
    for (size_t i = 0; i < from->n_ranges; i++) {
        to->ranges[i] = g_new(Drover__V1__Range, 1);
        drover__v1__range__init(to->ranges[i]);
        to->ranges[i]->offset = from->ranges[i].offset;
        to->ranges[i]->length = from->ranges[i].length;
    }
}

static void free_cell(gpointer data)
{
    Drover__V1__CellDone *cell = data;
    for (size_t i = 0; i < cell->n_ranges; i++)
        g_free(cell->ranges[i]);
    g_free(cell->ranges);
    g_free(cell);
}

GBytes *drover_codec_checkpoint(const DroverReporterName *name, const DroverTask *task, uint64_t sequence,
                                const DroverCopyCell *cells, size_t n)
{
    Drover__V1__Checkpoint checkpoint = DROVER__V1__CHECKPOINT__INIT;
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(free_cell);
    checkpoint.job_id = task->job_id;
    checkpoint.disk_id = task->disk_id;
    checkpoint.task_id = task->task_id;
    checkpoint.round = task->round;
    checkpoint.attempt = task->attempt;
    checkpoint.sequence = sequence;
    checkpoint.volume_id = task->target.volume_id;
    checkpoint.generation = task->target.generation;
    checkpoint.process_id = (char *)name->process_id;
    checkpoint.at_ms = drover_now_ms();
    for (size_t i = 0; i < n; i++) {
        Drover__V1__CellDone *cell = g_new(Drover__V1__CellDone, 1);
        drover__v1__cell_done__init(cell);
        cell->cell = cells[i].cell;
        cell->digest.data = (uint8_t *)cells[i].digest.bytes;
        cell->digest.len = cells[i].digest.len;
        cell->data_bytes = cells[i].data_bytes;
        cell->zero_found_bytes = cells[i].zero_found_bytes;
        cell->skipped_bytes = cells[i].skipped_bytes;
        put_ranges(cell, &cells[i]);
        g_ptr_array_add(list, cell);
    }
    checkpoint.n_cells = n;
    checkpoint.cells = (Drover__V1__CellDone **)list->pdata;
    return pack(&checkpoint.base);
}

GBytes *drover_codec_progress(const DroverReporterName *name, const DroverTask *task,
                              const DroverTaskProgress *progress)
{
    Drover__V1__Progress message = DROVER__V1__PROGRESS__INIT;
    Drover__V1__ByteCounts counts;
    put_counts(&counts, &progress->counts);
    message.job_id = task->job_id;
    message.disk_id = task->disk_id;
    message.task_id = task->task_id;
    message.round = task->round;
    message.attempt = task->attempt;
    message.sequence = progress->sequence;
    message.process_id = (char *)name->process_id;
    message.at_ms = drover_now_ms();
    message.counts = &counts;
    message.rate_bytes_per_second = progress->rate_bytes_per_second;
    message.stall_cause = (Drover__V1__StallCause)progress->stall_cause;
    message.repair = task->repair;
    message.in_flight_bytes = progress->in_flight_bytes;
    return pack(&message.base);
}

GBytes *drover_codec_heartbeat(const DroverReporterName *name, const DroverWorkerHeartbeat *from)
{
    Drover__V1__Heartbeat message = DROVER__V1__HEARTBEAT__INIT;
    Drover__V1__WorkerStatus worker = DROVER__V1__WORKER_STATUS__INIT;
    g_autofree Drover__V1__RunningTask *running = g_new0(Drover__V1__RunningTask, from->running->len + 1);
    g_autofree Drover__V1__RunningTask **pointers = g_new0(Drover__V1__RunningTask *, from->running->len + 1);
    for (guint i = 0; i < from->running->len; i++) {
        const DroverTask *task = g_ptr_array_index(from->running, i);
        drover__v1__running_task__init(&running[i]);
        running[i].task_id = task->task_id;
        running[i].attempt = task->attempt;
        pointers[i] = &running[i];
    }
    worker.copy_slots = from->copy_slots;
    worker.source_slots = from->source_slots;
    worker.n_copy_partitions = from->copy_partitions->len;
    worker.copy_partitions = (int32_t *)(void *)from->copy_partitions->data;
    worker.n_source_partitions = from->source_partitions->len;
    worker.source_partitions = (int32_t *)(void *)from->source_partitions->data;
    worker.n_running = from->running->len;
    worker.running = pointers;
    message.process_id = (char *)name->process_id;
    message.instance_id = (char *)name->instance_id;
    message.role = DROVER__V1__ROLE__ROLE_WORKER;
    message.site = (char *)name->site;
    message.host = (char *)from->host;
    message.pid = (uint32_t)getpid();
    message.version = (char *)DROVER_VERSION;
    message.started_at_ms = from->started_at_ms;
    message.at_ms = drover_now_ms();
    message.interval_ms = from->interval_ms;
    message.sequence = from->sequence;
    message.draining = from->draining;
    message.stopped = from->stopped;
    message.worker = &worker;
    return pack(&message.base);
}
