/* SPDX-License-Identifier: Apache-2.0 */
/* What the leader sends: tasks, control, audit, heartbeats. */
#include "scheduler/codec_internal.h"

#include "core/task/planner.h"
#include "core/job/source_vm.h"
#include "drover/v1/control.pb-c.h"
#include "drover/v1/fleet.pb-c.h"
#include "drover/v1/task.pb-c.h"
#include "lib/base/ids.h"

#include <unistd.h>

static Drover__V1__Task envelope(const DroverJob *job, const char *task_id, const char *disk_id,
                                 uint32_t attempt, int64_t now_ms)
{
    Drover__V1__Task message = DROVER__V1__TASK__INIT;
    message.task_id = (char *)task_id;
    message.job_id = job->job_id;
    message.disk_id = (char *)disk_id;
    message.round = job->round;
    message.attempt = attempt;
    message.created_at_ms = now_ms;
    return message;
}

GBytes *codec_inspect_task(const DroverJob *job, const DroverDisk *disk, const DroverTask *task,
                           int64_t now_ms)
{
    Drover__V1__DiskSpec *spec = codec_unpack_bytes(&drover__v1__disk_spec__descriptor, disk->spec);
    Drover__V1__InspectTask inspect = DROVER__V1__INSPECT_TASK__INIT;
    Drover__V1__Task message = envelope(job, task->task_id, disk->disk_id, task->attempt, now_ms);
    codec_point_at_snapshot(job, spec->source);
    inspect.source = spec->source;
    inspect.changed_areas = job->round > 0 && job->sync_type != DROVER_SYNC_DEEP_VERIFY;
    inspect.since_change_id = *disk->base_change_id != '\0' ? disk->base_change_id : disk->change_id;
    message.assigned_to = task->owner_process;
    message.body_case = DROVER__V1__TASK__BODY_INSPECT;
    message.inspect = &inspect;
    GBytes *packed = codec_pack(&message.base);
    codec_free(spec);
    return packed;
}

GBytes *codec_source_vm_task(const DroverJob *job, const DroverDisk *disk, const DroverTask *task,
                             const char *const *full_hosts, uint32_t transfers_per_host, int64_t now_ms)
{
    g_autoptr(GPtrArray) arena = codec_arena();
    Drover__V1__Task message = envelope(job, task->task_id, disk->disk_id, task->attempt, now_ms);
    message.assigned_to = task->owner_process;
    message.body_case = DROVER__V1__TASK__BODY_SOURCE_VM;
    message.source_vm = codec_source_vm(arena, job, task);
    message.source_vm->full_hosts = (char **)full_hosts;
    message.source_vm->n_full_hosts = full_hosts != NULL ? g_strv_length((GStrv)full_hosts) : 0;
    message.source_vm->transfers_per_host = transfers_per_host;
    return codec_pack(&message.base);
}

static void fill_target(Drover__V1__NbdTarget *target, const DroverJob *job, const DroverDisk *disk)
{
    target->agent = job->agent;
    target->volume_id = disk->volume_id;
    target->host = disk->nbd_host;
    target->port = disk->nbd_port;
    target->export_name = disk->export_name;
    target->generation = disk->generation;
    target->token = disk->token;
}

/* What TASK copies where only areas count, also for repairs of such cells; NULL: its whole range. */
static GArray *areas_of(const DroverDisk *disk, const DroverTask *task)
{
    if (task->kind == DROVER_TASK_COPY || disk->sync_type != DROVER_SYNC_INCREMENTAL)
        return task->areas != NULL ? g_array_ref(task->areas) : NULL;
    GArray *areas = g_array_new(false, false, sizeof(DroverRange));
    for (guint i = 0; i < disk->tasks->len; i++) {
        const DroverTask *copied = disk->tasks->pdata[i];
        if (copied->areas == NULL)
            continue;
        g_autoptr(GArray) inside = drover_areas_in(copied->areas, &task->range);
        g_array_append_vals(areas, inside->data, inside->len);
    }
    return areas;
}

static Drover__V1__Range **fill_ranges(GPtrArray *arena, const DroverRange *ranges, size_t n)
{
    Drover__V1__Range *all = codec_alloc(arena, sizeof *all * (n + 1));
    Drover__V1__Range **list = codec_alloc(arena, sizeof *list * (n + 1));
    for (size_t i = 0; i < n; i++) {
        drover__v1__range__init(&all[i]);
        all[i].offset = ranges[i].offset;
        all[i].length = ranges[i].length;
        list[i] = &all[i];
    }
    return list;
}

static Drover__V1__SyncType sync_type_of(const DroverDisk *disk, const DroverTask *task)
{
    if (disk->sync_type == 0 || (disk->sync_type == DROVER_SYNC_DEEP_VERIFY && task->kind == DROVER_TASK_REPAIR))
        return DROVER__V1__SYNC_TYPE__SYNC_TYPE_FULL;
    return (Drover__V1__SyncType)disk->sync_type;
}

GBytes *codec_copy_task(const DroverJob *job, const DroverDisk *disk, const DroverTask *task, uint64_t rate,
                        int64_t now_ms)
{
    g_autoptr(GPtrArray) arena = codec_arena();
    Drover__V1__DiskSpec *spec = codec_unpack_bytes(&drover__v1__disk_spec__descriptor, disk->spec);
    Drover__V1__SourceIdentity *identity =
        codec_unpack_bytes(&drover__v1__source_identity__descriptor, disk->identity);
    Drover__V1__Task message = envelope(job, task->task_id, disk->disk_id, task->attempt, now_ms);
    Drover__V1__CopyTask copy = DROVER__V1__COPY_TASK__INIT;
    Drover__V1__Range range = DROVER__V1__RANGE__INIT;
    Drover__V1__NbdTarget target = DROVER__V1__NBD_TARGET__INIT;
    DroverCounts counts = {0};
    bool repair = task->kind == DROVER_TASK_REPAIR;
    g_autoptr(GByteArray) done = repair ? NULL : drover_cells_done_bits(disk->cells, &task->range, &counts);
    range.offset = task->range.offset;
    range.length = task->range.length;
    fill_target(&target, job, disk);
    codec_point_at_snapshot(job, spec->source);
    copy.source = spec->source;
    copy.identity = identity;
    copy.capacity_bytes = disk->capacity_bytes;
    copy.sync_type = sync_type_of(disk, task);
    g_autoptr(GArray) areas = areas_of(disk, task);
    if (areas != NULL) {
        copy.n_areas = areas->len;
        copy.areas = fill_ranges(arena, (const DroverRange *)(const void *)areas->data, areas->len);
    }
    copy.range = &range;
    if (repair) {
        g_autoptr(GByteArray) none = NULL;
        none = drover_cells_verified_bits(disk->cells, &task->range);
        copy.done_cells.data = g_memdup2(none->data, none->len);
        g_ptr_array_add(arena, copy.done_cells.data);
        copy.done_cells.len = none->len;
    } else {
        copy.done_cells.data = done->data;
        copy.done_cells.len = done->len;
    }
    copy.done_counts = codec_counts(arena, &counts);
    copy.target = &target;
    copy.digest = (Drover__V1__DigestAlgorithm)job->digest;
    copy.rate_bytes_per_second = rate;
    /* A fresh volume reads as zero until somebody writes to it, and only this round has; should the storage
     * have lied, the read-back finds it, and the repair writes the zeroes. */
    copy.target_is_zero = !repair && disk->round == 0;
    copy.repair = repair;
    message.assigned_to = task->owner_process;
    message.body_case = DROVER__V1__TASK__BODY_COPY;
    message.copy = &copy;
    GBytes *packed = codec_pack(&message.base);
    codec_free(spec);
    codec_free(identity);
    return packed;
}

GBytes *codec_operation_task(const DroverJob *job, const DroverOperation *operation, int64_t now_ms)
{
    g_autoptr(GPtrArray) arena = codec_arena();
    Drover__V1__JobSpec *spec = codec_unpack_bytes(&drover__v1__job_spec__descriptor, job->spec);
    Drover__V1__Task message = envelope(job, operation->operation_id, operation->disk_id, 1, now_ms);
    message.assigned_to = job->agent;
    message.body_case = DROVER__V1__TASK__BODY_OPERATION;
    message.operation = codec_operation(arena, job, operation, spec);
    GBytes *packed = codec_pack(&message.base);
    codec_free(spec);
    return packed;
}

GBytes *codec_verify_task(const DroverJob *job, const DroverDisk *disk, const DroverVerifyBatch *batch,
                          int64_t now_ms)
{
    g_autoptr(GPtrArray) arena = codec_arena();
    g_autofree char *rest = g_strdup_printf("%" G_GUINT64_FORMAT, batch->sequence);
    g_autofree char *task_id = drover_task_id(job->job_id, disk->disk_id, disk->round, "verify", rest);
    Drover__V1__Task message = envelope(job, task_id, disk->disk_id, 1, now_ms);
    Drover__V1__VerifyTask verify = DROVER__V1__VERIFY_TASK__INIT;
    verify.volume_id = disk->volume_id;
    verify.generation = disk->generation;
    verify.digest = (Drover__V1__DigestAlgorithm)job->digest;
    verify.capacity_bytes = disk->capacity_bytes;
    verify.sequence = batch->sequence;
    verify.cells = codec_alloc(arena, sizeof(void *) * batch->cells->len);
    for (guint i = 0; i < batch->cells->len; i++) {
        Drover__V1__CellDigest *cell =
            codec_new(arena, Drover__V1__CellDigest, DROVER__V1__CELL_DIGEST__INIT);
        cell->cell = g_array_index(batch->cells, uint64_t, i);
        cell->digest.data = disk->cells->cell[cell->cell].root.bytes;
        cell->digest.len = disk->cells->cell[cell->cell].root.len;
        cell->n_ranges = disk->cells->cell[cell->cell].n_ranges;
        cell->ranges = fill_ranges(arena, disk->cells->cell[cell->cell].ranges, cell->n_ranges);
        verify.cells[verify.n_cells++] = cell;
    }
    message.assigned_to = job->agent;
    message.body_case = DROVER__V1__TASK__BODY_VERIFY;
    message.verify = &verify;
    return codec_pack(&message.base);
}

GBytes *codec_audit(const DroverJob *job, const DroverOutput *output, const char *process_id, int64_t now_ms)
{
    Drover__V1__AuditRecord audit = DROVER__V1__AUDIT_RECORD__INIT;
    audit.job_id = job->job_id;
    audit.disk_id = output->disk_id;
    audit.at_ms = now_ms;
    audit.level = (char *)output->level;
    audit.event = (char *)output->event;
    audit.message = output->message;
    audit.process_id = (char *)process_id;
    return codec_pack(&audit.base);
}

static Drover__V1__LiveTask *live_task(GPtrArray *arena, const DroverTask *task, GHashTable *rates,
                                       uint64_t floor, int64_t ttl_ms)
{
    Drover__V1__LiveTask *live = codec_new(arena, Drover__V1__LiveTask, DROVER__V1__LIVE_TASK__INIT);
    live->task_id = task->task_id;
    live->attempt = task->attempt;
    live->owner_instance = task->owner_instance;
    g_autofree char *holder = g_strdup_printf("%s/%u", task->task_id, task->attempt);
    const DroverGrant *grant = rates != NULL ? g_hash_table_lookup(rates, holder) : NULL;
    if (grant != NULL) {
        live->rate_bytes_per_second = grant->bytes_per_second;
        live->rate_ttl_ms = (uint64_t)ttl_ms;
        live->rate_floor_bytes_per_second = floor;
    }
    return live;
}

static void fill_live(GPtrArray *arena, Drover__V1__JobControl *control, const DroverJob *job,
                      GHashTable *rates, uint64_t floor, int64_t ttl_ms)
{
    g_autoptr(GPtrArray) live = g_ptr_array_new();
    g_autoptr(GPtrArray) generations = g_ptr_array_new();
    for (guint d = 0; d < job->disks->len; d++) {
        const DroverDisk *disk = job->disks->pdata[d];
        for (guint t = 0; t < disk->tasks->len; t++)
            if (drover_task_is_live(disk->tasks->pdata[t]))
                g_ptr_array_add(live, live_task(arena, disk->tasks->pdata[t], rates, floor, ttl_ms));
        if (*disk->volume_id == '\0' || disk->generation == 0)
            continue;
        Drover__V1__VolumeGeneration *generation =
            codec_new(arena, Drover__V1__VolumeGeneration, DROVER__V1__VOLUME_GENERATION__INIT);
        generation->volume_id = disk->volume_id;
        generation->generation = disk->generation;
        g_ptr_array_add(generations, generation);
    }
    control->n_tasks = live->len;
    control->tasks = codec_alloc(arena, sizeof(void *) * live->len);
    if (live->len > 0)
        memcpy(control->tasks, live->pdata, sizeof(void *) * live->len);
    control->n_generations = generations->len;
    control->generations = codec_alloc(arena, sizeof(void *) * generations->len);
    if (generations->len > 0)
        memcpy(control->generations, generations->pdata, sizeof(void *) * generations->len);
}

/* Nothing of the job may go on but what puts its source VM back in order; what changes that VM is asked to stop and to
 * say so. */
static Drover__V1__DesiredState desired_while_ending(const DroverJob *job)
{
    const DroverTask *task = drover_source_task(job);
    if (task == NULL || !drover_task_is_live(task))
        return DROVER__V1__DESIRED_STATE__DESIRED_STATE_STOP;
    return drover_source_action_undoes(task->action) ? DROVER__V1__DESIRED_STATE__DESIRED_STATE_RUN
                                                     : DROVER__V1__DESIRED_STATE__DESIRED_STATE_PAUSE;
}

GBytes *codec_control(const DroverJob *job, GHashTable *rates, uint64_t floor, int64_t ttl_ms,
                      const char *leader, int64_t now_ms)
{
    g_autoptr(GPtrArray) arena = codec_arena();
    Drover__V1__JobControl control = DROVER__V1__JOB_CONTROL__INIT;
    control.job_id = job->job_id;
    bool over = drover_phase_is_undoing(job->phase) ||
                (drover_phase_is_ended(job->phase) && job->phase != DROVER_PHASE_COMPLETED);
    control.desired = over          ? desired_while_ending(job)
                      : job->paused ? DROVER__V1__DESIRED_STATE__DESIRED_STATE_PAUSE
                                    : DROVER__V1__DESIRED_STATE__DESIRED_STATE_RUN;
    fill_live(arena, &control, job, rates, floor, ttl_ms);
    Drover__V1__ControlRecord record = DROVER__V1__CONTROL_RECORD__INIT;
    record.version = job->control_version;
    record.at_ms = now_ms;
    record.leader = (char *)leader;
    record.record_case = DROVER__V1__CONTROL_RECORD__RECORD_JOB;
    record.job = &control;
    return codec_pack(&record.base);
}

bool codec_read_control(const uint8_t *value, size_t len, char **job_id, uint64_t *version,
                        void (*hold)(const char *holder, uint64_t rate, void *data), void *data,
                        GError **error)
{
    Drover__V1__ControlRecord *record =
        codec_unpack(&drover__v1__control_record__descriptor, value, len, "The control record", error);
    if (record == NULL)
        return false;
    *version = record->version;
    *job_id = NULL;
    if (record->record_case == DROVER__V1__CONTROL_RECORD__RECORD_JOB) {
        *job_id = g_strdup(record->job->job_id);
        for (size_t i = 0; i < record->job->n_tasks; i++) {
            const Drover__V1__LiveTask *live = record->job->tasks[i];
            g_autofree char *holder = g_strdup_printf("%s/%u", live->task_id, live->attempt);
            if (live->rate_bytes_per_second > live->rate_floor_bytes_per_second)
                hold(holder, live->rate_bytes_per_second - live->rate_floor_bytes_per_second, data);
        }
    }
    codec_free(record);
    return true;
}

GBytes *codec_beat(const CodecBeat *beat, int64_t now_ms)
{
    Drover__V1__Heartbeat message = DROVER__V1__HEARTBEAT__INIT;
    Drover__V1__SchedulerStatus status = DROVER__V1__SCHEDULER_STATUS__INIT;
    message.process_id = (char *)beat->process_id;
    message.instance_id = (char *)beat->instance_id;
    message.role = DROVER__V1__ROLE__ROLE_SCHEDULER;
    message.host = (char *)g_get_host_name();
    message.pid = (uint32_t)getpid();
    message.version = (char *)DROVER_VERSION;
    message.started_at_ms = beat->started_at_ms;
    message.at_ms = now_ms;
    message.interval_ms = (uint64_t)beat->interval_ms;
    message.sequence = beat->sequence;
    message.draining = beat->draining;
    message.stopped = beat->stopped;
    status.leader = beat->leader;
    status.jobs_active = beat->jobs_active;
    status.tasks_ready = beat->tasks_ready;
    status.tasks_running = beat->tasks_running;
    message.scheduler = &status;
    return codec_pack(&message.base);
}
