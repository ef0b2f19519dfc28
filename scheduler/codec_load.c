/* SPDX-License-Identifier: Apache-2.0 */
/* State records -> core structs. */
#include "scheduler/codec_internal.h"

#include "core/bits.h"

static Drover__V1__StateRecord *unpack_record(const uint8_t *value, size_t len, GError **error)
{
    return codec_unpack(&drover__v1__state_record__descriptor, value, len, "A state record", error);
}

bool codec_state_kind(const uint8_t *value, size_t len, CodecStateKind *kind, GError **error)
{
    Drover__V1__StateRecord *record = unpack_record(value, len, error);
    if (record == NULL)
        return false;
    switch (record->record_case) {
    case DROVER__V1__STATE_RECORD__RECORD_JOB:
        *kind = CODEC_STATE_JOB;
        break;
    case DROVER__V1__STATE_RECORD__RECORD_DISK:
        *kind = CODEC_STATE_DISK;
        break;
    case DROVER__V1__STATE_RECORD__RECORD_TASK:
        *kind = CODEC_STATE_TASK;
        break;
    case DROVER__V1__STATE_RECORD__RECORD_OFFSETS:
        *kind = CODEC_STATE_OFFSETS;
        break;
    default:
        *kind = CODEC_STATE_OTHER;
        break;
    }
    codec_free(record);
    return true;
}

static void load_ledger(DroverJob *job, const Drover__V1__JobState *state)
{
    for (size_t i = 0; i < state->n_ledger; i++) {
        const Drover__V1__LedgerEntry *message = state->ledger[i];
        DroverLedgerEntry *entry = g_new0(DroverLedgerEntry, 1);
        entry->kind = (int)message->kind;
        entry->disk_id = g_strdup(message->disk_id);
        entry->object_id = g_strdup(message->object_id);
        entry->operation_id = g_strdup(message->operation_id);
        entry->agent = g_strdup(message->agent);
        entry->at_ms = message->at_ms;
        g_ptr_array_add(job->ledger, entry);
    }
}

static void load_phases(DroverJob *job, const Drover__V1__JobState *state)
{
    for (size_t i = 0; i < state->n_phase_started_at_ms; i++)
        for (int phase = 1; phase <= DROVER_PHASE_LAST; phase++)
            if (g_str_equal(state->phase_started_at_ms[i]->key, drover_phase_name((DroverPhase)phase)))
                job->phase_started_at_ms[phase] = state->phase_started_at_ms[i]->value;
}

static void load_failover(DroverJob *job, const Drover__V1__FailoverState *failover)
{
    if (failover == NULL)
        return;
    job->failover_kind = (DroverFailoverKind)failover->kind;
    drover_set_string(&job->failover_status, failover->status);
    drover_set_string(&job->vm_id, failover->vm_id);
    drover_set_string(&job->vm_name, failover->vm_name);
    drover_set_string(&job->vm_state, failover->vm_state);
    job->failover_started_at_ms = failover->started_at_ms;
    job->failover_completed_at_ms = failover->completed_at_ms;
}

static void load_source_vm(DroverJob *job, const Drover__V1__SourceVmState *state)
{
    DroverSourceVm *source = &job->source;
    if (state == NULL)
        return;
    drover_set_string(&source->host, state->host);
    drover_set_string(&source->power_state, state->power_state);
    drover_set_string(&source->firmware, state->firmware);
    source->secure_boot = state->secure_boot;
    drover_set_string(&source->guest_id, state->guest_id);
    source->snapshot_at_ms = state->snapshot_at_ms;
    source->quiesced = state->quiesced;
    if (state->other_disks_known) {
        source->other_disks = g_array_new(false, false, sizeof(int32_t));
        g_array_append_vals(source->other_disks, state->other_disk_keys, (guint)state->n_other_disk_keys);
    }
}

static void load_job(DroverJob *job, const Drover__V1__JobState *state)
{
    job->version = state->version;
    job->phase = (DroverPhase)state->phase;
    job->after_cleaning = (DroverPhase)state->after_cleaning;
    job->keep_volumes = state->keep_volumes;
    job->paused = state->paused;
    codec_read_error(state->error, &job->error);
    drover_set_string(&job->agent, state->agent);
    job->round = state->round;
    job->sync_type = (int)state->sync_type;
    job->created_at_ms = state->created_at_ms;
    job->updated_at_ms = state->updated_at_ms;
    job->started_at_ms = state->started_at_ms;
    job->completed_at_ms = state->completed_at_ms;
    job->operation_counter = state->operation_counter;
    drover_set_string(&job->stall_reason, state->stall_reason);
    job->failover_requested = state->failover_requested;
    job->setup_percent = state->setup_progress_percent;
    job->round_started_at_ms = state->round_started_at_ms;
    job->replicated_until_ms = state->replicated_until_ms;
    job->round_interval_ms = state->round_interval_ms;
    for (size_t i = 0; i < state->n_rounds; i++) {
        const Drover__V1__RoundSummary *from = state->rounds[i];
        DroverRoundSummary round = {from->round,          (int)from->sync_type, from->started_at_ms,
                                    from->finished_at_ms, from->planned_bytes,  from->moved_bytes};
        g_array_append_val(job->rounds, round);
    }
    job->final_round = state->final_round;
    load_source_vm(job, state->source_vm);
    load_ledger(job, state);
    load_phases(job, state);
    load_failover(job, state->failover);
    for (size_t i = 0; i < state->n_operations; i++) {
        DroverOperation *operation = state->operations[i]->operation != NULL
                                         ? codec_read_operation(state->operations[i]->operation)
                                         : NULL;
        if (operation != NULL)
            g_ptr_array_add(job->operations, operation);
    }
    for (size_t i = 0; i < state->n_disk_ids; i++)
        drover_job_add_disk(job, state->disk_ids[i]);
}

bool codec_load_job(const uint8_t *value, size_t len, GHashTable *jobs, GError **error)
{
    Drover__V1__StateRecord *record = unpack_record(value, len, error);
    if (record == NULL)
        return false;
    g_autoptr(DroverJob) job = drover_job_new(record->job->job_id);
    load_job(job, record->job);
    bool ok = true;
    if (record->job->spec != NULL) {
        job->spec = codec_pack(&record->job->spec->base);
        ok = codec_read_spec(job, error);
    }
    codec_free(record);
    if (ok)
        g_hash_table_replace(jobs, job->job_id, job);
    if (ok)
        job = NULL;
    return ok;
}

static DroverSyncStatus sync_status_of(const char *name)
{
    for (int status = DROVER_SYNC_PENDING; status <= DROVER_SYNC_FAILED; status++)
        if (g_str_equal(drover_sync_status_name((DroverSyncStatus)status), name))
            return (DroverSyncStatus)status;
    return DROVER_SYNC_PENDING;
}

static GArray *load_deltas(const uint64_t *deltas, size_t n, uint64_t end)
{
    GArray *areas = g_array_new(false, false, sizeof(DroverRange));
    for (size_t i = 0; i + 1 < n; i += 2) {
        DroverRange area = {end + deltas[i], deltas[i + 1]};
        g_array_append_val(areas, area);
        end = area.offset + area.length;
    }
    return areas;
}

static void load_disk(DroverJob *job, DroverDisk *disk, const Drover__V1__DiskState *state)
{
    disk->version = state->version;
    if (state->spec != NULL) {
        disk->spec = codec_pack(&state->spec->base);
        if (state->spec->target_size_case == DROVER__V1__DISK_SPEC__TARGET_SIZE_TARGET_SIZE_BYTES)
            disk->wanted_size_bytes = state->spec->target_size_bytes;
        disk->source_key = codec_source_key(state->spec->source);
    }
    if (state->identity != NULL)
        disk->identity = codec_pack(&state->identity->base);
    drover_set_string(&disk->format, state->format);
    disk->capacity_bytes = state->capacity_bytes;
    disk->allocated_bytes = state->allocated_bytes;
    disk->extents_available = state->extents_available;
    disk->bucket_bytes = state->bucket_bytes;
    g_array_append_vals(disk->buckets, state->bucket_allocated_bytes, (guint)state->n_bucket_allocated_bytes);
    drover_set_string(&disk->volume_id, state->volume_id);
    disk->target_size_bytes = state->target_size_bytes;
    drover_set_string(&disk->device_path, state->device_path);
    drover_set_string(&disk->export_name, state->export_name);
    disk->generation = state->generation;
    disk->export_open = state->export_open;
    drover_set_string(&disk->nbd_host, state->nbd_host);
    disk->nbd_port = state->nbd_port;
    disk->round = state->round;
    drover_set_string(&disk->change_id, state->change_id);
    drover_set_string(&disk->previous_change_id, state->previous_change_id);
    drover_set_string(&disk->receipt, state->receipt);
    drover_set_string(&disk->round_digest, state->round_digest);
    disk->range_bytes = state->range_bytes;
    disk->sync_status = sync_status_of(state->sync_status);
    codec_read_counts(state->final_counts, &disk->final_counts);
    disk->diverged = state->diverged;
    disk->repaired_cells = state->repaired_cells;
    disk->verified_bytes = state->verified_bytes;
    drover_set_string(&disk->vm_id, state->vm_id);
    drover_set_string(&disk->previous_receipt, state->previous_receipt);
    drover_set_string(&disk->found_change_id, state->found_change_id);
    disk->sync_type = (int)state->sync_type;
    drover_set_string(&disk->datastore, state->datastore);
    drover_set_string(&disk->base_change_id, state->base_change_id);
    if (state->n_carried_area_deltas > 0)
        disk->carried = load_deltas(state->carried_area_deltas, state->n_carried_area_deltas, 0);
    /* Cells are needed while a round is under way; the other records and the checkpoints fill them. */
    if (job->phase == DROVER_PHASE_COPYING && *disk->receipt == '\0') {
        disk->cells = drover_cells_new(disk->capacity_bytes);
        disk->verify = drover_verify_new();
    }
}

bool codec_load_disk(const uint8_t *value, size_t len, GHashTable *jobs, GError **error)
{
    Drover__V1__StateRecord *record = unpack_record(value, len, error);
    if (record == NULL)
        return false;
    DroverJob *job = g_hash_table_lookup(jobs, record->disk->job_id);
    DroverDisk *disk = job != NULL ? drover_job_disk(job, record->disk->disk_id) : NULL;
    if (disk != NULL)
        load_disk(job, disk, record->disk);
    codec_free(record);
    return true;
}

static void load_cells(const DroverJob *job, DroverDisk *disk, const DroverTask *task,
                       const Drover__V1__TaskState *state)
{
    size_t begin = drover_cells_begin(&task->range),
           end = MIN(drover_cells_end(&task->range), disk->cells->n);
    size_t digest_len = drover_digest_len(job->digest);
    for (size_t i = begin; i < end; i++) {
        DroverCell *cell = &disk->cells->cell[i];
        bool done = task->status == DROVER_TASK_DONE;
        if (done || drover_bits_get(state->verified_cells.data, state->verified_cells.len, i - begin)) {
            cell->verified = cell->checkpointed = true;
            cell->repairing = false;
        } else if (task->kind == DROVER_TASK_REPAIR && !drover_task_is_ended(task) && !cell->verified) {
            cell->repairing = true;
        }
        if (done && digest_len > 0 && (i - begin + 1) * digest_len <= state->cell_roots.len) {
            cell->root.len = (uint8_t)digest_len;
            memcpy(cell->root.bytes, state->cell_roots.data + (i - begin) * digest_len, digest_len);
        }
    }
}

static void load_areas(const DroverDisk *disk, DroverTask *task, const Drover__V1__TaskState *state)
{
    if (disk->sync_type != DROVER_SYNC_INCREMENTAL || task->kind != DROVER_TASK_COPY)
        return;
    task->areas = load_deltas(state->area_deltas, state->n_area_deltas, task->range.offset);
}

static void load_task(const DroverJob *job, DroverDisk *disk, const Drover__V1__TaskState *state)
{
    DroverTask *task = drover_disk_add_task(disk, state->task_id, (DroverTaskKind)state->kind);
    task->dirty = false;
    task->action = state->source_vm_action;
    task->version = state->version;
    task->status = (DroverTaskStatus)state->status;
    task->round = state->round;
    task->attempt = state->attempt;
    task->failures = state->failures;
    drover_set_string(&task->owner_process, state->owner_process);
    drover_set_string(&task->owner_instance, state->owner_instance);
    task->partition = state->partition;
    if (state->range != NULL)
        task->range = (DroverRange){state->range->offset, state->range->length};
    task->planned_bytes = state->planned_bytes;
    codec_read_counts(state->counts, &task->counts);
    task->generation = state->generation;
    codec_read_error(state->error, &task->error);
    task->updated_at_ms = state->updated_at_ms;
    task->not_before_at_ms = state->not_before_ms;
    load_areas(disk, task, state);
    if (disk->cells != NULL && drover_task_moves_data(task) && task->round == disk->round) {
        drover_cells_settle_untouched(disk->cells, task);
        load_cells(job, disk, task, state);
    }
}

bool codec_load_task(const uint8_t *value, size_t len, GHashTable *jobs, GError **error)
{
    Drover__V1__StateRecord *record = unpack_record(value, len, error);
    if (record == NULL)
        return false;
    const DroverJob *job = g_hash_table_lookup(jobs, record->task->job_id);
    DroverDisk *disk = job != NULL ? drover_job_disk(job, record->task->disk_id) : NULL;
    if (disk != NULL)
        load_task(job, disk, record->task);
    codec_free(record);
    return true;
}

bool codec_load_offsets(const uint8_t *value, size_t len, GHashTable *offsets, GError **error)
{
    Drover__V1__StateRecord *record = unpack_record(value, len, error);
    if (record == NULL)
        return false;
    for (size_t i = 0; i < record->offsets->n_offsets; i++) {
        const Drover__V1__InputOffset *offset = record->offsets->offsets[i];
        g_hash_table_replace(offsets, g_strdup_printf("%s/%d", offset->topic, offset->partition),
                             g_memdup2(&offset->next_offset, sizeof offset->next_offset));
    }
    codec_free(record);
    return true;
}
