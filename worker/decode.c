/* SPDX-License-Identifier: Apache-2.0 */
/* Messages to structs: everything that arrives is checked here, and nowhere later. */
#include <string.h>

#include "drover/v1/control.pb-c.h"
#include "drover/v1/task.pb-c.h"
#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "worker/codec.h"

#define MAX_CELLS (UINT64_C(1) << 22) /* 128 TiB in one task */

static bool invalid(GError **error, const char *what)
{
    return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-TASK-INVALID: %s", what);
}

static bool take_source(const Drover__V1__DiskSource *from, DroverSourceSpec *to, GError **error)
{
    if (from != NULL && from->kind_case == DROVER__V1__DISK_SOURCE__KIND_FILE) {
        const Drover__V1__FileSource *file = from->file;
        to->type = DROVER_SOURCE_FILE;
        to->path = g_strdup(file->path);
        to->format = g_strdup(file->format);
        to->expected_sha256 = g_strdup(file->expected_sha256);
        to->has_expected_size =
            file->expected_size_case == DROVER__V1__FILE_SOURCE__EXPECTED_SIZE_EXPECTED_SIZE_BYTES;
        to->expected_size_bytes = to->has_expected_size ? file->expected_size_bytes : 0;
        return true;
    }
    if (from != NULL && from->kind_case == DROVER__V1__DISK_SOURCE__KIND_NBD) {
        to->type = DROVER_SOURCE_NBD;
        to->uri = g_strdup(from->nbd->uri);
        to->dirty_bitmap = g_strdup(from->nbd->dirty_bitmap);
        to->vouched_frozen = from->nbd->frozen;
        return true;
    }
    if (from != NULL && from->kind_case == DROVER__V1__DISK_SOURCE__KIND_VSPHERE) {
        const Drover__V1__VsphereSource *vsphere = from->vsphere;
        if (*vsphere->vcenter == '\0' || *vsphere->vm_moref == '\0' || *vsphere->snapshot_moref == '\0')
            return invalid(error, "the source lacks its vCenter, VM or snapshot");
        to->type = DROVER_SOURCE_VSPHERE;
        to->vcenter = g_strdup(vsphere->vcenter);
        to->vm_moref = g_strdup(vsphere->vm_moref);
        to->vm_uuid = g_strdup(vsphere->vm_uuid);
        to->disk_key = vsphere->disk_key;
        to->snapshot_moref = g_strdup(vsphere->snapshot_moref);
        return true;
    }
    return invalid(error, "the source is missing or of a kind that this worker does not know");
}

static void take_identity(const Drover__V1__SourceIdentity *from, DroverSourceIdentity *to)
{
    to->kind = g_strdup(from == NULL ? "" : from->kind);
    to->device_inode = g_strdup(from == NULL ? "" : from->device_inode);
    to->change_id = g_strdup(from == NULL ? "" : from->change_id);
    to->file_size_bytes = from == NULL ? 0 : from->file_size_bytes;
    to->mtime_ns = from == NULL ? 0 : from->mtime_ns;
}

static bool take_range(const Drover__V1__CopyTask *from, DroverTask *to, GError **error)
{
    if (from->range == NULL || from->range->length == 0)
        return invalid(error, "the range is empty");
    uint64_t offset = from->range->offset, length = from->range->length;
    if (from->capacity_bytes == 0 || offset > from->capacity_bytes || length > from->capacity_bytes - offset)
        return invalid(error, "the range lies outside the disk");
    if (offset % DROVER_CELL_BYTES != 0 ||
        (length % DROVER_CELL_BYTES != 0 && offset + length != from->capacity_bytes))
        return invalid(error, "the range does not begin and end on cells");
    if (length / DROVER_CELL_BYTES > MAX_CELLS)
        return invalid(error, "the range is too large");
    to->range = (DroverRange){.offset = offset, .length = length};
    to->n_areas = from->n_areas;
    to->areas = g_new0(DroverRange, from->n_areas + 1);
    for (size_t i = 0; i < from->n_areas; i++) {
        const Drover__V1__Range *area = from->areas[i];
        if (area->length == 0 || area->offset < offset || area->offset - offset > length ||
            area->length > length - (area->offset - offset))
            return invalid(error, "an area lies outside the range");
        to->areas[i] = (DroverRange){.offset = area->offset, .length = area->length};
    }
    return true;
}

static bool take_target(const Drover__V1__NbdTarget *from, DroverTaskTarget *to, GError **error)
{
    if (from == NULL || *from->host == '\0' || *from->export_name == '\0' || from->generation == 0 ||
        from->port > UINT16_MAX)
        return invalid(error, "the target lacks its host, export or generation");
    to->volume_id = g_strdup(from->volume_id);
    to->host = g_strdup(from->host);
    to->port = (uint16_t)from->port;
    to->export_name = g_strdup(from->export_name);
    to->generation = from->generation;
    to->token = g_strdup(from->token);
    to->tls = from->tls;
    return true;
}

static bool take_copy(const Drover__V1__CopyTask *from, DroverTask *to, GError **error)
{
    to->kind = DROVER_TASK_COPY;
    take_identity(from->identity, &to->identity);
    if (!take_source(from->source, &to->source, error) || !take_range(from, to, error) ||
        !take_target(from->target, &to->target, error))
        return false;
    switch (from->sync_type) {
    case DROVER__V1__SYNC_TYPE__SYNC_TYPE_FULL:
    case DROVER__V1__SYNC_TYPE__SYNC_TYPE_INCREMENTAL:
        break;
    case DROVER__V1__SYNC_TYPE__SYNC_TYPE_DEEP_VERIFY:
        if (from->digest == DROVER__V1__DIGEST_ALGORITHM__DIGEST_ALGORITHM_NONE)
            return invalid(error, "a comparison needs a digest");
        to->compare = true;
        break;
    default:
        return invalid(error, "this worker does not know the kind of round");
    }
    if (from->sync_type == DROVER__V1__SYNC_TYPE__SYNC_TYPE_INCREMENTAL && from->n_areas == 0)
        return invalid(error, "an incremental task lists no areas");
    if (from->digest < DROVER__V1__DIGEST_ALGORITHM__DIGEST_ALGORITHM_NONE ||
        from->digest > DROVER__V1__DIGEST_ALGORITHM__DIGEST_ALGORITHM_SHA256)
        return invalid(error, "this worker does not know the digest");
    to->digest = (DroverDigestAlgorithm)from->digest;
    to->capacity_bytes = from->capacity_bytes;
    to->done_cells = g_memdup2(from->done_cells.data, from->done_cells.len);
    to->done_cells_len = from->done_cells.len;
    if (from->done_counts != NULL)
        to->done_counts = (DroverByteCounts){
            .data_bytes = from->done_counts->data_bytes,
            .zero_found_bytes = from->done_counts->zero_found_bytes,
            .skipped_bytes = from->done_counts->skipped_bytes,
            .resent_bytes = from->done_counts->resent_bytes,
            .read_bytes = from->done_counts->read_bytes,
        };
    to->rate_bytes_per_second = from->rate_bytes_per_second;
    to->target_is_zero = from->target_is_zero;
    to->repair = from->repair;
    to->memory_bytes = from->memory_bytes;
    return true;
}

static DroverTask *take_header(const Drover__V1__Task *from)
{
    DroverTask *to = g_new0(DroverTask, 1);
    to->task_id = g_strdup(from->task_id);
    to->job_id = g_strdup(from->job_id);
    to->disk_id = g_strdup(from->disk_id);
    to->round = from->round;
    to->attempt = from->attempt;
    to->created_at_ms = from->created_at_ms;
    return to;
}

/* What the submission says of size and digest was true of round 0. A bitmap may be named by the round: "drover-{round}"
 * holds what changed up to the freezing for that round. */
static void fit_to_round(DroverTask *task)
{
    if (task->round > 0 && task->source.type == DROVER_SOURCE_FILE) {
        task->source.has_expected_size = false;
        g_free(task->source.expected_sha256);
        task->source.expected_sha256 = g_strdup("");
    }
    if (task->source.dirty_bitmap == NULL || strstr(task->source.dirty_bitmap, "{round}") == NULL)
        return;
    g_autofree char *round = g_strdup_printf("%u", task->round);
    g_auto(GStrv) parts = g_strsplit(task->source.dirty_bitmap, "{round}", -1);
    g_free(task->source.dirty_bitmap);
    task->source.dirty_bitmap = g_strjoinv(round, parts);
}

static bool take_inspect(const Drover__V1__InspectTask *from, DroverTask *to, GError **error)
{
    to->kind = DROVER_TASK_INSPECT;
    to->changed_areas = from->changed_areas;
    to->since_change_id = from->changed_areas ? g_strdup(from->since_change_id) : NULL;
    return take_source(from->source, &to->source, error);
}

static bool take_source_vm(const Drover__V1__SourceVmTask *from, DroverTask *to, GError **error)
{
    DroverVmOrder *vm = &to->vm;
    to->kind = DROVER_TASK_SOURCE_VM;
    if (*from->vcenter == '\0' || *from->vm_moref == '\0')
        return invalid(error, "the task lacks its vCenter or VM");
    if (from->action < DROVER__V1__SOURCE_VM_ACTION__SOURCE_VM_ACTION_PREFLIGHT ||
        from->action > DROVER__V1__SOURCE_VM_ACTION__SOURCE_VM_ACTION_LOOK)
        return invalid(error, "this worker does not know what to do with the source VM");
    bool about_snapshot = from->action == DROVER__V1__SOURCE_VM_ACTION__SOURCE_VM_ACTION_SNAPSHOT ||
                          from->action == DROVER__V1__SOURCE_VM_ACTION__SOURCE_VM_ACTION_REMOVE_SNAPSHOT;
    if (about_snapshot && *from->snapshot_name == '\0')
        return invalid(error, "the snapshot has no name");
    if (from->power_policy > DROVER__V1__POWER_POLICY__POWER_POLICY_MANUAL)
        return invalid(error, "this worker does not know the power policy");
    vm->vcenter = g_strdup(from->vcenter);
    vm->vm_moref = g_strdup(from->vm_moref);
    vm->vm_uuid = g_strdup(from->vm_uuid);
    vm->disk_keys = g_memdup2(from->disk_keys, from->n_disk_keys * sizeof *from->disk_keys);
    vm->n_disk_keys = from->n_disk_keys;
    vm->action = (DroverVmAction)from->action;
    vm->snapshot_name = g_strdup(from->snapshot_name);
    vm->snapshot_description = g_strdup(from->snapshot_description);
    vm->snapshot_moref = g_strdup(from->snapshot_moref);
    vm->crash_consistent = from->crash_consistent;
    vm->power_policy = from->power_policy == DROVER__V1__POWER_POLICY__POWER_POLICY_UNSPECIFIED
                           ? DROVER_POWER_ASK
                           : (DroverPowerPolicy)from->power_policy;
    vm->shutdown_timeout_ms = from->shutdown_timeout_ms;
    vm->stay_off = from->stay_off;
    vm->transfers_per_host = from->transfers_per_host;
    vm->full_hosts = g_new0(char *, from->n_full_hosts + 1);
    for (size_t i = 0; i < from->n_full_hosts; i++)
        vm->full_hosts[i] = g_strdup(from->full_hosts[i]);
    return true;
}

static bool take_body(const Drover__V1__Task *from, DroverTask *to, GError **error)
{
    switch (from->body_case) {
    case DROVER__V1__TASK__BODY_INSPECT:
        return take_inspect(from->inspect, to, error);
    case DROVER__V1__TASK__BODY_COPY:
        return take_copy(from->copy, to, error);
    case DROVER__V1__TASK__BODY_SOURCE_VM:
        return take_source_vm(from->source_vm, to, error);
    default:
        return invalid(error, "this worker does not know the kind of task");
    }
}

DroverTask *drover_codec_task(const uint8_t *data, size_t len, DroverTask **header, GError **error)
{
    Drover__V1__Task *message = data == NULL ? NULL : drover__v1__task__unpack(NULL, len, data);
    if (message == NULL) {
        invalid(error, "the record is not a Task");
        return NULL;
    }
    g_autoptr(DroverTask) task = NULL;
    if (*message->task_id == '\0' || !drover_id_is_valid(message->job_id) || message->attempt == 0) {
        invalid(error, "the task has no id, job or attempt");
    } else {
        task = take_header(message);
        if (!take_body(message, task, error)) {
            if (header != NULL)
                *header = take_header(message);
            g_clear_pointer(&task, drover_task_free);
        } else {
            fit_to_round(task);
        }
    }
    drover__v1__task__free_unpacked(message, NULL);
    return g_steal_pointer(&task);
}

static DroverJobControl *take_control(const Drover__V1__ControlRecord *record)
{
    const Drover__V1__JobControl *from = record->job;
    DroverJobControl *to = g_new0(DroverJobControl, 1);
    to->job_id = g_strdup(from->job_id);
    to->version = record->version;
    to->at_ms = record->at_ms;
    to->desired = (DroverDesired)from->desired;
    to->n_tasks = from->n_tasks;
    to->tasks = g_new0(DroverLiveTask, from->n_tasks + 1);
    for (size_t i = 0; i < from->n_tasks; i++) {
        const Drover__V1__LiveTask *live = from->tasks[i];
        to->tasks[i] = (DroverLiveTask){
            .task_id = g_strdup(live->task_id),
            .attempt = live->attempt,
            .owner_instance = g_strdup(live->owner_instance),
            .rate_bytes_per_second = live->rate_bytes_per_second,
            .rate_ttl_ms = live->rate_ttl_ms,
            .rate_floor_bytes_per_second = live->rate_floor_bytes_per_second,
        };
    }
    return to;
}

DroverJobControl *drover_codec_control(const uint8_t *data, size_t len, GError **error)
{
    Drover__V1__ControlRecord *record = data == NULL ? NULL : drover__v1__control_record__unpack(NULL, len, data);
    DroverJobControl *control = NULL;
    if (record == NULL || record->record_case != DROVER__V1__CONTROL_RECORD__RECORD_JOB ||
        *record->job->job_id == '\0' || record->job->desired < DROVER__V1__DESIRED_STATE__DESIRED_STATE_RUN ||
        record->job->desired > DROVER__V1__DESIRED_STATE__DESIRED_STATE_STOP)
        drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-CONTROL-INVALID: the record is not a job's control snapshot");
    else
        control = take_control(record);
    if (record != NULL)
        drover__v1__control_record__free_unpacked(record, NULL);
    return control;
}
