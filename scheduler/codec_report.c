/* SPDX-License-Identifier: Apache-2.0 */
/* Reports of workers and agents: events, checkpoints, journals, heartbeats. */
#include "scheduler/codec_internal.h"

#include "drover/v1/event.pb-c.h"
#include "drover/v1/fleet.pb-c.h"

#define BUCKETS_MAX 4096
/* Larger than any sensible report; what is kept of one must fit into a state record. */
#define EVENT_MAX_BYTES (256u << 10)

/* Sorted, merged and inside the disk, or an error. */
static GArray *read_areas(const Drover__V1__InspectResult *result, const char *disk_id, GError **error)
{
    g_autoptr(GArray) areas = g_array_new(false, false, sizeof(DroverRange));
    uint64_t end = 0;
    bool sane = result->n_area_deltas % 2 == 0;
    for (size_t i = 0; sane && i < result->n_area_deltas; i += 2) {
        uint64_t gap = result->area_deltas[i], length = result->area_deltas[i + 1];
        sane = gap <= result->capacity_bytes - end && length > 0 && length <= result->capacity_bytes - end - gap &&
               (gap > 0 || i == 0);
        if (!sane)
            break;
        DroverRange area = {end + gap, length};
        g_array_append_val(areas, area);
        end = area.offset + area.length;
    }
    if (sane)
        return g_steal_pointer(&areas);
    drover_fail(error, DROVER_ERROR_PERMANENT, "The inspection of disk %s has senseless areas", disk_id);
    return NULL;
}

static bool read_inspection(CodecEvent *event, const Drover__V1__InspectResult *result, GError **error)
{
    uint64_t covered = result->bucket_bytes * result->n_bucket_allocated_bytes;
    if (result->n_bucket_allocated_bytes > BUCKETS_MAX ||
        (result->n_bucket_allocated_bytes > 0 &&
         (result->bucket_bytes == 0 || result->bucket_bytes % DROVER_CELL_BYTES != 0 ||
          covered < result->capacity_bytes)))
        return drover_fail(error, DROVER_ERROR_PERMANENT, "The inspection of disk %s has senseless buckets",
                           event->disk_id);
    event->inspection = (DroverInspection){
        .identity = result->identity != NULL ? codec_pack(&result->identity->base) : NULL,
        .change_id = result->identity != NULL ? result->identity->change_id : "",
        .format = result->format,
        .capacity_bytes = result->capacity_bytes,
        .allocated_bytes = result->allocated_bytes,
        .extents_available = result->extents_available,
        .frozen = result->frozen,
        .bucket_bytes = result->bucket_bytes,
        .buckets = result->bucket_allocated_bytes,
        .n_buckets = result->n_bucket_allocated_bytes,
        .areas_unknown_because = result->areas_unknown_because,
    };
    if (result->areas_known) {
        event->areas = read_areas(result, event->disk_id, error);
        event->inspection.areas = event->areas;
        return event->areas != NULL;
    }
    return true;
}

static void read_verified(CodecEvent *event, const Drover__V1__VerifyResult *result)
{
    event->generation = result->generation;
    event->sequence = result->sequence;
    event->verified = result->verified_cells;
    event->n_verified = result->n_verified_cells;
    event->mismatched = result->mismatched_cells;
    event->n_mismatched = result->n_mismatched_cells;
    codec_read_error(result->error, &event->fault);
}

static void read_source_vm(CodecEvent *event, const Drover__V1__SourceVmResult *result)
{
    event->held = codec_arena();
    DroverSourceFinding *findings = codec_alloc(event->held, sizeof *findings * result->n_findings);
    DroverSourceDisk *disks = codec_alloc(event->held, sizeof *disks * result->n_disks);
    for (size_t i = 0; i < result->n_findings; i++) {
        const Drover__V1__Finding *from = result->findings[i];
        findings[i] = (DroverSourceFinding){from->severity, from->code, from->message, from->disk_key};
    }
    for (size_t i = 0; i < result->n_disks; i++) {
        const Drover__V1__SourceVmDisk *from = result->disks[i];
        disks[i] = (DroverSourceDisk){from->disk_key, from->capacity_bytes, from->datastore};
    }
    event->source = (DroverSourceReport){
        .findings = findings,
        .n_findings = result->n_findings,
        .disks = disks,
        .n_disks = result->n_disks,
        .other_keys = result->other_disk_keys,
        .n_other_keys = result->n_other_disk_keys,
        .snapshot_moref = result->snapshot_moref,
        .quiesced = result->quiesced,
        .snapshot_at_ms = result->snapshot_at_ms,
        .power_state = result->power_state,
        .host = result->host,
        .firmware = result->firmware,
        .secure_boot = result->secure_boot,
        .guest_id = result->guest_id,
    };
}

static bool read_body(CodecEvent *event, const Drover__V1__Event *message, GError **error)
{
    switch (message->body_case) {
    case DROVER__V1__EVENT__BODY_CLAIMED:
        event->kind = CODEC_EVENT_CLAIMED;
        return true;
    case DROVER__V1__EVENT__BODY_FINISHED:
        event->kind = CODEC_EVENT_FINISHED;
        codec_read_counts(message->finished->counts, &event->counts);
        return true;
    case DROVER__V1__EVENT__BODY_FAILED:
        event->kind = CODEC_EVENT_FAILED;
        codec_read_error(message->failed->error, &event->fault);
        if (event->fault.error_class == 0)
            drover_fault_set(&event->fault, DROVER_ERROR_RETRYABLE, "", "worker %s gave no reason",
                             event->process_id);
        return true;
    case DROVER__V1__EVENT__BODY_RELEASED:
        event->kind = CODEC_EVENT_RELEASED;
        event->reason = message->released->reason;
        return true;
    case DROVER__V1__EVENT__BODY_INSPECTED:
        event->kind = CODEC_EVENT_INSPECTED;
        return read_inspection(event, message->inspected, error);
    case DROVER__V1__EVENT__BODY_SOURCE_VM:
        event->kind = CODEC_EVENT_SOURCE_VM;
        read_source_vm(event, message->source_vm);
        return true;
    case DROVER__V1__EVENT__BODY_VERIFIED:
        event->kind = CODEC_EVENT_VERIFIED;
        read_verified(event, message->verified);
        return true;
    case DROVER__V1__EVENT__BODY_NOTICE:
        event->kind = CODEC_EVENT_NOTICE;
        return true;
    default:
        event->kind = CODEC_EVENT_OTHER;
        return true;
    }
}

CodecEvent *codec_event(const uint8_t *value, size_t len, GError **error)
{
    if (len > EVENT_MAX_BYTES) {
        drover_fail(error, DROVER_ERROR_PERMANENT, "The event has %zu bytes, more than %u", len,
                    EVENT_MAX_BYTES);
        return NULL;
    }
    Drover__V1__Event *message = codec_unpack(&drover__v1__event__descriptor, value, len, "The event", error);
    if (message == NULL)
        return NULL;
    g_autoptr(CodecEvent) event = g_new0(CodecEvent, 1);
    event->message = message;
    event->job_id = message->job_id;
    event->disk_id = message->disk_id;
    event->task_id = message->task_id;
    event->attempt = message->attempt;
    event->process_id = message->process_id;
    event->instance_id = message->instance_id;
    return read_body(event, message, error) ? g_steal_pointer(&event) : NULL;
}

void codec_event_free(CodecEvent *event)
{
    if (event == NULL)
        return;
    drover_fault_clear(&event->fault);
    g_clear_pointer(&event->areas, g_array_unref);
    g_clear_pointer(&event->held, g_ptr_array_unref);
    g_clear_pointer(&event->inspection.identity, g_bytes_unref);
    codec_free(event->message);
    g_free(event);
}

static bool take_ranges(CodecCheckpoint *read, const Drover__V1__CellDone *cell, DroverCellDone *done)
{
    if (cell->n_ranges == 0)
        return true;
    DroverRange *ranges = codec_alloc(read->held, cell->n_ranges * sizeof *ranges);
    uint64_t at = cell->cell * DROVER_CELL_BYTES, end = at + DROVER_CELL_BYTES;
    for (size_t i = 0; i < cell->n_ranges; i++) {
        const Drover__V1__Range *range = cell->ranges[i];
        if (range->length == 0 || range->offset < at || range->offset >= end || range->length > end - range->offset)
            return false;
        ranges[i] = (DroverRange){range->offset, range->length};
        at = range->offset + range->length;
    }
    done->ranges = ranges;
    done->n_ranges = cell->n_ranges;
    return true;
}

CodecCheckpoint *codec_checkpoint(const uint8_t *value, size_t len, GError **error)
{
    Drover__V1__Checkpoint *message =
        codec_unpack(&drover__v1__checkpoint__descriptor, value, len, "The checkpoint", error);
    if (message == NULL)
        return NULL;
    g_autoptr(CodecCheckpoint) read = g_new0(CodecCheckpoint, 1);
    read->message = message;
    read->job_id = message->job_id;
    read->disk_id = message->disk_id;
    read->cells = g_array_new(false, true, sizeof(DroverCellDone));
    read->held = codec_arena();
    for (size_t i = 0; i < message->n_cells; i++) {
        const Drover__V1__CellDone *cell = message->cells[i];
        if (cell->digest.len > DROVER_DIGEST_MAX || cell->data_bytes > DROVER_CELL_BYTES ||
            cell->zero_found_bytes > DROVER_CELL_BYTES || cell->skipped_bytes > DROVER_CELL_BYTES) {
            drover_fail(error, DROVER_ERROR_PERMANENT, "The checkpoint of task %s has a senseless cell",
                        message->task_id);
            return NULL;
        }
        DroverCellDone done = {
            .cell = cell->cell,
            .root.len = (uint8_t)cell->digest.len,
            .data_bytes = (uint32_t)cell->data_bytes,
            .zero_found_bytes = (uint32_t)cell->zero_found_bytes,
            .skipped_bytes = (uint32_t)cell->skipped_bytes,
        };
        if (cell->digest.len > 0)
            memcpy(done.root.bytes, cell->digest.data, cell->digest.len);
        if (!take_ranges(read, cell, &done)) {
            drover_fail(error, DROVER_ERROR_PERMANENT, "The checkpoint of task %s has senseless ranges",
                        message->task_id);
            return NULL;
        }
        g_array_append_val(read->cells, done);
    }
    read->checkpoint.task_id = message->task_id;
    read->checkpoint.generation = message->generation;
    read->checkpoint.cells = (const DroverCellDone *)(const void *)read->cells->data;
    read->checkpoint.n_cells = read->cells->len;
    return g_steal_pointer(&read);
}

void codec_checkpoint_free(CodecCheckpoint *checkpoint)
{
    if (checkpoint == NULL)
        return;
    g_clear_pointer(&checkpoint->cells, g_array_unref);
    g_ptr_array_unref(checkpoint->held);
    codec_free(checkpoint->message);
    g_free(checkpoint);
}

static void read_result(const Drover__V1__OperationResult *result, DroverOperationResult *read)
{
    if (result == NULL)
        return;
    *read = (DroverOperationResult){
        .volume_id = result->volume_id,
        .vm_id = result->vm_id,
        .vm_state = result->vm_state,
        .device_path = result->device_path,
        .device_size_bytes = result->device_size_bytes,
        .export_name = result->export_name,
        .generation = result->generation,
        .token = result->token,
        .nbd_host = result->nbd_host,
        .nbd_port = result->nbd_port,
    };
}

static void read_journal_operation(CodecJournal *journal, const Drover__V1__JournalOperation *operation)
{
    if (operation->operation == NULL)
        return;
    journal->job_id = operation->operation->job_id;
    journal->operation_id = operation->operation->operation_id;
    if (operation->state == DROVER__V1__OPERATION_STATE__OPERATION_STATE_DONE) {
        journal->kind = CODEC_JOURNAL_DONE;
        read_result(operation->result, &journal->result);
    } else if (operation->state == DROVER__V1__OPERATION_STATE__OPERATION_STATE_FAILED) {
        journal->kind = CODEC_JOURNAL_FAILED;
        codec_read_error(operation->error, &journal->fault);
        if (journal->fault.error_class == 0)
            drover_fault_set(&journal->fault, DROVER_ERROR_PERMANENT, "", "volume agent %s gave no reason",
                             operation->agent);
    }
}

CodecJournal *codec_journal(const uint8_t *value, size_t len, GError **error)
{
    Drover__V1__JournalRecord *message =
        codec_unpack(&drover__v1__journal_record__descriptor, value, len, "The journal record", error);
    if (message == NULL)
        return NULL;
    CodecJournal *journal = g_new0(CodecJournal, 1);
    journal->message = message;
    if (message->record_case == DROVER__V1__JOURNAL_RECORD__RECORD_OPERATION) {
        read_journal_operation(journal, message->operation);
    } else if (message->record_case == DROVER__V1__JOURNAL_RECORD__RECORD_EXPORT) {
        journal->kind = CODEC_JOURNAL_EXPORT;
        journal->job_id = message->export->job_id;
        journal->result.volume_id = message->export->volume_id;
        journal->result.generation = message->export->generation;
        journal->result.token = message->export->token;
    }
    return journal;
}

void codec_journal_free(CodecJournal *journal)
{
    if (journal == NULL)
        return;
    drover_fault_clear(&journal->fault);
    codec_free(journal->message);
    g_free(journal);
}

DroverProcess *codec_heartbeat(const uint8_t *value, size_t len, int64_t *at_ms, GError **error)
{
    Drover__V1__Heartbeat *message =
        codec_unpack(&drover__v1__heartbeat__descriptor, value, len, "The heartbeat", error);
    if (message == NULL)
        return NULL;
    DroverProcess *process = drover_process_new(message->process_id, message->instance_id,
                                                (DroverRole)message->role, message->site);
    *at_ms = message->at_ms;
    process->started_at_ms = message->started_at_ms;
    process->sequence = message->sequence;
    process->interval_ms = (int64_t)MIN(message->interval_ms, 3600000);
    process->draining = message->draining;
    process->stopped = message->stopped;
    const Drover__V1__WorkerStatus *worker = message->worker;
    if (worker != NULL) {
        process->copy_slots = worker->copy_slots;
        process->source_slots = worker->source_slots;
        g_array_append_vals(process->copy_partitions, worker->copy_partitions,
                            (guint)worker->n_copy_partitions);
        g_array_append_vals(process->source_partitions, worker->source_partitions,
                            (guint)worker->n_source_partitions);
        for (size_t i = 0; i < worker->n_running; i++) {
            DroverRunning running = {g_strdup(worker->running[i]->task_id), worker->running[i]->attempt};
            g_array_append_val(process->running, running);
        }
    }
    if (message->agent != NULL) {
        process->device_slots = message->agent->device_slots;
        process->free_device_slots = message->agent->free_device_slots;
        process->appliance_draining = message->agent->draining;
        drover_set_string(&process->scope, message->agent->scope);
        if (*message->agent->agent != '\0') {
            g_free(process->site);
            process->site = g_strdup(message->agent->agent);
        }
    }
    codec_free(message);
    return process;
}
