/* SPDX-License-Identifier: Apache-2.0 */
/* Core structs -> state records. */
#include "scheduler/codec_internal.h"

char *codec_job_key(const DroverJob *job)
{
    return g_strdup_printf("job/%s", job->job_id);
}

char *codec_disk_key(const DroverJob *job, const DroverDisk *disk)
{
    return g_strdup_printf("job/%s/disk/%s", job->job_id, disk->disk_id);
}

char *codec_task_key(const DroverJob *job, const DroverDisk *disk, const DroverTask *task)
{
    return g_strdup_printf("job/%s/disk/%s/task/%s", job->job_id, disk->disk_id, task->task_id);
}

static void fill_ledger(GPtrArray *arena, Drover__V1__JobState *state, const DroverJob *job)
{
    state->n_ledger = job->ledger->len;
    state->ledger = codec_alloc(arena, sizeof(void *) * job->ledger->len);
    for (guint i = 0; i < job->ledger->len; i++) {
        const DroverLedgerEntry *entry = job->ledger->pdata[i];
        Drover__V1__LedgerEntry *message =
            codec_new(arena, Drover__V1__LedgerEntry, DROVER__V1__LEDGER_ENTRY__INIT);
        message->kind = (Drover__V1__LedgerKind)entry->kind;
        message->disk_id = entry->disk_id;
        message->object_id = entry->object_id;
        message->operation_id = entry->operation_id;
        message->agent = entry->agent;
        message->at_ms = entry->at_ms;
        state->ledger[i] = message;
    }
}

static void fill_operations(GPtrArray *arena, Drover__V1__JobState *state, const DroverJob *job,
                            const Drover__V1__JobSpec *spec)
{
    state->n_operations = job->operations->len;
    state->operations = codec_alloc(arena, sizeof(void *) * job->operations->len);
    for (guint i = 0; i < job->operations->len; i++) {
        const DroverOperation *operation = job->operations->pdata[i];
        Drover__V1__OperationRef *ref =
            codec_new(arena, Drover__V1__OperationRef, DROVER__V1__OPERATION_REF__INIT);
        ref->operation_id = operation->operation_id;
        ref->state = DROVER__V1__OPERATION_STATE__OPERATION_STATE_ACCEPTED;
        ref->operation = codec_operation(arena, job, operation, spec);
        state->operations[i] = ref;
    }
}

static void fill_phases(GPtrArray *arena, Drover__V1__JobState *state, const DroverJob *job)
{
    state->phase_started_at_ms = codec_alloc(arena, sizeof(void *) * (DROVER_PHASE_LAST + 1));
    for (int phase = 1; phase <= DROVER_PHASE_LAST; phase++) {
        if (job->phase_started_at_ms[phase] == 0)
            continue;
        Drover__V1__JobState__PhaseStartedAtMsEntry *entry =
            codec_new(arena, Drover__V1__JobState__PhaseStartedAtMsEntry,
                      DROVER__V1__JOB_STATE__PHASE_STARTED_AT_MS_ENTRY__INIT);
        entry->key = (char *)drover_phase_name((DroverPhase)phase);
        entry->value = job->phase_started_at_ms[phase];
        state->phase_started_at_ms[state->n_phase_started_at_ms++] = entry;
    }
}

static void fill_rounds(GPtrArray *arena, Drover__V1__JobState *state, const DroverJob *job)
{
    state->rounds = codec_alloc(arena, sizeof(void *) * (job->rounds->len + 1));
    for (guint i = 0; i < job->rounds->len; i++) {
        const DroverRoundSummary *round = &g_array_index(job->rounds, DroverRoundSummary, i);
        Drover__V1__RoundSummary *message =
            codec_new(arena, Drover__V1__RoundSummary, DROVER__V1__ROUND_SUMMARY__INIT);
        message->round = round->round;
        message->sync_type = (Drover__V1__SyncType)round->sync_type;
        message->started_at_ms = round->started_at_ms;
        message->finished_at_ms = round->finished_at_ms;
        message->planned_bytes = round->planned_bytes;
        message->moved_bytes = round->moved_bytes;
        state->rounds[state->n_rounds++] = message;
    }
}

static Drover__V1__FailoverState *fill_failover(GPtrArray *arena, const DroverJob *job)
{
    if (*job->failover_status == '\0' && *job->vm_id == '\0')
        return NULL;
    Drover__V1__FailoverState *failover =
        codec_new(arena, Drover__V1__FailoverState, DROVER__V1__FAILOVER_STATE__INIT);
    failover->kind = (Drover__V1__FailoverKind)job->failover_kind;
    failover->status = job->failover_status;
    failover->vm_id = job->vm_id;
    failover->vm_name = job->vm_name;
    failover->vm_state = job->vm_state;
    failover->started_at_ms = job->failover_started_at_ms;
    failover->completed_at_ms = job->failover_completed_at_ms;
    return failover;
}

static Drover__V1__SourceVmState *fill_source_vm(GPtrArray *arena, const DroverJob *job)
{
    const DroverSourceVm *source = &job->source;
    if (!source->present)
        return NULL;
    Drover__V1__SourceVmState *message = codec_new(arena, Drover__V1__SourceVmState, DROVER__V1__SOURCE_VM_STATE__INIT);
    message->host = source->host;
    message->power_state = source->power_state;
    message->firmware = source->firmware;
    message->secure_boot = source->secure_boot;
    message->guest_id = source->guest_id;
    message->snapshot_at_ms = source->snapshot_at_ms;
    message->quiesced = source->quiesced;
    message->other_disks_known = source->other_disks != NULL;
    if (source->other_disks != NULL) {
        message->n_other_disk_keys = source->other_disks->len;
        message->other_disk_keys = (int32_t *)(void *)source->other_disks->data;
    }
    return message;
}

GBytes *codec_job_state(const DroverJob *job)
{
    g_autoptr(GPtrArray) arena = codec_arena();
    Drover__V1__JobSpec *spec = codec_unpack_bytes(&drover__v1__job_spec__descriptor, job->spec);
    Drover__V1__JobState state = DROVER__V1__JOB_STATE__INIT;
    state.job_id = job->job_id;
    state.version = job->version;
    state.spec = spec;
    state.phase = (Drover__V1__JobPhase)job->phase;
    state.after_cleaning = (Drover__V1__JobPhase)job->after_cleaning;
    state.keep_volumes = job->keep_volumes;
    state.paused = job->paused;
    state.error = codec_error(arena, &job->error);
    state.agent = job->agent;
    state.round = job->round;
    state.sync_type = (Drover__V1__SyncType)job->sync_type;
    state.created_at_ms = job->created_at_ms;
    state.updated_at_ms = job->updated_at_ms;
    state.started_at_ms = job->started_at_ms;
    state.completed_at_ms = job->completed_at_ms;
    state.operation_counter = job->operation_counter;
    state.stall_reason = job->stall_reason;
    state.failover_requested = job->failover_requested;
    state.setup_progress_percent = job->setup_percent;
    state.failover = fill_failover(arena, job);
    state.round_started_at_ms = job->round_started_at_ms;
    state.replicated_until_ms = job->replicated_until_ms;
    state.round_interval_ms = job->round_interval_ms;
    state.source_vm = fill_source_vm(arena, job);
    state.final_round = job->final_round;
    fill_rounds(arena, &state, job);
    fill_ledger(arena, &state, job);
    fill_operations(arena, &state, job, spec);
    fill_phases(arena, &state, job);
    state.disk_ids = codec_alloc(arena, sizeof(char *) * job->disks->len);
    for (guint i = 0; i < job->disks->len; i++)
        state.disk_ids[state.n_disk_ids++] = ((const DroverDisk *)job->disks->pdata[i])->disk_id;
    Drover__V1__StateRecord record = DROVER__V1__STATE_RECORD__INIT;
    record.record_case = DROVER__V1__STATE_RECORD__RECORD_JOB;
    record.job = &state;
    GBytes *packed = codec_pack(&record.base);
    codec_free(spec);
    return packed;
}

/* Pairs: the gap since END or since the area before, and the length. */
static uint64_t *area_deltas(GPtrArray *arena, const GArray *areas, uint64_t end, size_t *n)
{
    uint64_t *deltas = codec_alloc(arena, sizeof(uint64_t) * 2 * ((size_t)areas->len + 1));
    *n = 0;
    for (guint i = 0; i < areas->len; i++) {
        const DroverRange *area = &g_array_index(areas, DroverRange, i);
        deltas[(*n)++] = area->offset - end;
        deltas[(*n)++] = area->length;
        end = area->offset + area->length;
    }
    return deltas;
}

GBytes *codec_disk_state(const DroverJob *job, const DroverDisk *disk)
{
    g_autoptr(GPtrArray) arena = codec_arena();
    Drover__V1__DiskState state = DROVER__V1__DISK_STATE__INIT;
    state.job_id = job->job_id;
    state.disk_id = disk->disk_id;
    state.version = disk->version;
    state.spec = codec_unpack_bytes(&drover__v1__disk_spec__descriptor, disk->spec);
    state.identity = codec_unpack_bytes(&drover__v1__source_identity__descriptor, disk->identity);
    state.format = disk->format;
    state.capacity_bytes = disk->capacity_bytes;
    state.allocated_bytes = disk->allocated_bytes;
    state.extents_available = disk->extents_available;
    state.bucket_bytes = disk->bucket_bytes;
    state.n_bucket_allocated_bytes = disk->buckets->len;
    state.bucket_allocated_bytes = (uint64_t *)(void *)disk->buckets->data;
    state.volume_id = disk->volume_id;
    state.target_size_bytes = disk->target_size_bytes;
    state.device_path = disk->device_path;
    state.export_name = disk->export_name;
    state.generation = disk->generation;
    state.export_open = disk->export_open;
    state.nbd_host = disk->nbd_host;
    state.nbd_port = disk->nbd_port;
    state.round = disk->round;
    state.change_id = disk->change_id;
    state.previous_change_id = disk->previous_change_id;
    state.receipt = disk->receipt;
    state.round_digest = disk->round_digest;
    state.range_bytes = disk->range_bytes;
    state.sync_status = (char *)drover_sync_status_name(disk->sync_status);
    state.final_counts = *disk->receipt != '\0' ? codec_counts(arena, &disk->final_counts) : NULL;
    state.diverged = disk->diverged;
    state.repaired_cells = disk->repaired_cells;
    state.verified_bytes = disk->verified_bytes;
    state.vm_id = disk->vm_id;
    state.previous_receipt = disk->previous_receipt;
    state.found_change_id = disk->found_change_id;
    state.sync_type = (Drover__V1__SyncType)disk->sync_type;
    state.datastore = disk->datastore;
    state.base_change_id = disk->base_change_id;
    if (disk->carried != NULL)
        state.carried_area_deltas = area_deltas(arena, disk->carried, 0, &state.n_carried_area_deltas);
    Drover__V1__StateRecord record = DROVER__V1__STATE_RECORD__INIT;
    record.record_case = DROVER__V1__STATE_RECORD__RECORD_DISK;
    record.disk = &state;
    GBytes *packed = codec_pack(&record.base);
    codec_free(state.spec);
    codec_free(state.identity);
    return packed;
}

GBytes *codec_task_state(const DroverJob *job, const DroverDisk *disk, const DroverTask *task)
{
    g_autoptr(GPtrArray) arena = codec_arena();
    g_autoptr(GByteArray) verified = NULL;
    g_autoptr(GByteArray) roots = NULL;
    Drover__V1__TaskState state = DROVER__V1__TASK_STATE__INIT;
    Drover__V1__Range range = DROVER__V1__RANGE__INIT;
    state.task_id = task->task_id;
    state.job_id = job->job_id;
    state.disk_id = disk->disk_id;
    state.version = task->version;
    state.kind = (Drover__V1__TaskKind)task->kind;
    state.source_vm_action = task->action;
    state.status = (Drover__V1__TaskStatus)task->status;
    state.round = task->round;
    state.attempt = task->attempt;
    state.failures = task->failures;
    state.owner_process = task->owner_process;
    state.owner_instance = task->owner_instance;
    state.partition = task->partition;
    state.planned_bytes = task->planned_bytes;
    state.generation = task->generation;
    state.error = codec_error(arena, &task->error);
    state.updated_at_ms = task->updated_at_ms;
    state.not_before_ms = task->not_before_at_ms;
    if (drover_task_moves_data(task)) {
        range.offset = task->range.offset;
        range.length = task->range.length;
        state.range = &range;
        if (task->areas != NULL)
            state.area_deltas = area_deltas(arena, task->areas, task->range.offset, &state.n_area_deltas);
        if (disk->cells != NULL) {
            verified = drover_cells_verified_bits(disk->cells, &task->range);
            state.verified_cells.data = verified->data;
            state.verified_cells.len = verified->len;
        }
        if (task->status == DROVER_TASK_DONE) {
            state.counts = codec_counts(arena, &task->counts);
            if (disk->cells != NULL) {
                roots = drover_cells_roots(disk->cells, &task->range);
                state.cell_roots.data = roots->data;
                state.cell_roots.len = roots->len;
            }
        }
    }
    Drover__V1__StateRecord record = DROVER__V1__STATE_RECORD__INIT;
    record.record_case = DROVER__V1__STATE_RECORD__RECORD_TASK;
    record.task = &state;
    return codec_pack(&record.base);
}

GBytes *codec_offsets(GHashTable *offsets, const char *leader, int64_t now_ms)
{
    g_autoptr(GPtrArray) arena = codec_arena();
    Drover__V1__InputOffsets message = DROVER__V1__INPUT_OFFSETS__INIT;
    message.leader = (char *)leader;
    message.at_ms = now_ms;
    message.offsets = codec_alloc(arena, sizeof(void *) * g_hash_table_size(offsets));
    GHashTableIter iter;
    void *key, *value;
    g_hash_table_iter_init(&iter, offsets);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        const char *slash = strrchr(key, '/');
        Drover__V1__InputOffset *offset =
            codec_new(arena, Drover__V1__InputOffset, DROVER__V1__INPUT_OFFSET__INIT);
        offset->topic = g_strndup(key, (gsize)(slash - (const char *)key));
        g_ptr_array_add(arena, offset->topic);
        offset->partition = (int32_t)g_ascii_strtoll(slash + 1, NULL, 10);
        offset->next_offset = *(const int64_t *)value;
        message.offsets[message.n_offsets++] = offset;
    }
    Drover__V1__StateRecord record = DROVER__V1__STATE_RECORD__INIT;
    record.record_case = DROVER__V1__STATE_RECORD__RECORD_OFFSETS;
    record.offsets = &message;
    return codec_pack(&record.base);
}
