/* SPDX-License-Identifier: Apache-2.0 */
#include "core/job/model.h"

#include "core/task/cells.h"
#include "core/task/verify.h"

void drover_fault_clear(DroverFault *fault)
{
    g_clear_pointer(&fault->code, g_free);
    g_clear_pointer(&fault->message, g_free);
    fault->error_class = (DroverErrorClass)0;
}

void drover_fault_copy(DroverFault *to, const DroverFault *from)
{
    if (to == from)
        return;
    drover_fault_clear(to);
    to->error_class = from->error_class;
    to->code = g_strdup(from->code);
    to->message = g_strdup(from->message);
}

void drover_fault_set(DroverFault *fault, DroverErrorClass error_class, const char *code, const char *format,
                      ...)
{
    drover_fault_clear(fault);
    va_list args;
    va_start(args, format);
    fault->error_class = error_class;
    fault->code = g_strdup(code);
    fault->message = g_strdup_vprintf(format, args);
    va_end(args);
}

const char *drover_op_name(DroverOpKind kind)
{
    static const char *const names[] = {
        "create-volume", "attach-volume", "detach-volume", "delete-volume", "open-export", "close-export",
        "deploy-vm",     "swap-root",     "attach-to-vm",  "start-vm",      "stop-vm",     "destroy-vm",
    };
    if (kind == DROVER_OP_PREFLIGHT_TARGET)
        return "preflight-target";
    return kind >= DROVER_OP_CREATE_VOLUME && kind <= DROVER_OP_DESTROY_VM
               ? names[kind - DROVER_OP_CREATE_VOLUME]
               : "unknown";
}

const char *drover_sync_status_name(DroverSyncStatus status)
{
    static const char *const names[] = {
        "pending", "inspecting", "preparing", "copying", "verifying", "completed", "failed",
    };
    return names[status];
}

bool drover_set_string(char **field, const char *value)
{
    if (value == NULL)
        value = "";
    if (g_strcmp0(*field, value) == 0)
        return false;
    char *copy = g_strdup(value);
    g_free(*field);
    *field = copy;
    return true;
}

const char *drover_sync_type_name(int sync_type)
{
    return sync_type == DROVER_SYNC_INCREMENTAL   ? "incremental"
           : sync_type == DROVER_SYNC_DEEP_VERIFY ? "deep-verify"
                                                  : "full";
}

void drover_source_vm_copy(DroverSourceVm *to, const DroverSourceVm *from)
{
    to->present = from->present;
    drover_set_string(&to->vcenter, from->vcenter);
    drover_set_string(&to->vm_moref, from->vm_moref);
    drover_set_string(&to->vm_uuid, from->vm_uuid);
    to->keep_on = from->keep_on;
    to->snapshot_max_age_ms = from->snapshot_max_age_ms;
}

void drover_source_vm_clear(DroverSourceVm *source)
{
    char **strings[] = {&source->vcenter, &source->vm_moref, &source->vm_uuid, &source->host, &source->power_state,
                        &source->firmware, &source->guest_id, &source->short_of_room};
    for (size_t i = 0; i < G_N_ELEMENTS(strings); i++)
        g_clear_pointer(strings[i], g_free);
    g_clear_pointer(&source->other_disks, g_array_unref);
}

static void clear_checkpoint_key(void *data)
{
    g_free(((DroverCheckpointKey *)data)->key);
}

static void task_free(void *data)
{
    DroverTask *task = data;
    if (task == NULL)
        return;
    g_free(task->task_id);
    g_free(task->owner_process);
    g_free(task->owner_instance);
    drover_fault_clear(&task->error);
    g_array_unref(task->checkpoint_keys);
    g_clear_pointer(&task->areas, g_array_unref);
    g_free(task);
}

static void ledger_entry_free(void *data)
{
    DroverLedgerEntry *entry = data;
    if (entry == NULL)
        return;
    g_free(entry->disk_id);
    g_free(entry->object_id);
    g_free(entry->operation_id);
    g_free(entry->agent);
    g_free(entry);
}

void drover_operation_free(DroverOperation *operation)
{
    if (operation == NULL)
        return;
    g_free(operation->operation_id);
    g_free(operation->disk_id);
    g_free(operation->volume_id);
    g_free(operation->vm_id);
    g_free(operation->custom_id);
    g_free(operation);
}

DroverOperation *drover_operation_copy(const DroverOperation *operation)
{
    DroverOperation *copy = g_memdup2(operation, sizeof *operation);
    copy->operation_id = g_strdup(operation->operation_id);
    copy->disk_id = g_strdup(operation->disk_id);
    copy->volume_id = g_strdup(operation->volume_id);
    copy->vm_id = g_strdup(operation->vm_id);
    copy->custom_id = g_strdup(operation->custom_id);
    return copy;
}

static void disk_free(void *data)
{
    DroverDisk *disk = data;
    if (disk == NULL)
        return;
    char *strings[] = {disk->disk_id,     disk->format,       disk->volume_id, disk->device_path,
                       disk->export_name, disk->nbd_host,     disk->change_id, disk->previous_change_id,
                       disk->receipt,     disk->round_digest, disk->vm_id,     disk->token,
                       disk->previous_receipt, disk->found_change_id, disk->datastore, disk->base_change_id};
    for (size_t i = 0; i < G_N_ELEMENTS(strings); i++)
        g_free(strings[i]);
    g_clear_pointer(&disk->spec, g_bytes_unref);
    g_clear_pointer(&disk->identity, g_bytes_unref);
    g_array_unref(disk->buckets);
    g_clear_pointer(&disk->carried, g_array_unref);
    g_ptr_array_unref(disk->tasks);
    g_ptr_array_unref(disk->retired);
    drover_cells_free(disk->cells);
    drover_verify_free(disk->verify);
    g_free(disk);
}

DroverJob *drover_job_new(const char *job_id)
{
    DroverJob *job = g_new0(DroverJob, 1);
    job->job_id = g_strdup(job_id);
    char **strings[] = {
        &job->name,  &job->site,    &job->wanted_agent, &job->agent,       &job->failover_status, &job->moving_to,
        &job->vm_id, &job->vm_name, &job->vm_state,     &job->stall_reason,
        &job->source.vcenter, &job->source.vm_moref, &job->source.vm_uuid, &job->source.host, &job->source.power_state,
        &job->source.firmware, &job->source.guest_id, &job->source.short_of_room};
    for (size_t i = 0; i < G_N_ELEMENTS(strings); i++)
        *strings[i] = g_strdup("");
    job->phase = DROVER_PHASE_SUBMITTED;
    job->digest = DROVER_DIGEST_XXH3;
    job->sync_type = DROVER_SYNC_FULL;
    job->rounds = g_array_new(false, false, sizeof(DroverRoundSummary));
    job->ledger = g_ptr_array_new_with_free_func(ledger_entry_free);
    job->operations = g_ptr_array_new_with_free_func((GDestroyNotify)drover_operation_free);
    job->disks = g_ptr_array_new_with_free_func(disk_free);
    return job;
}

void drover_job_free(DroverJob *job)
{
    if (job == NULL)
        return;
    char *strings[] = {job->job_id,          job->name,  job->site,    job->wanted_agent, job->agent, job->moving_to,
                       job->failover_status, job->vm_id, job->vm_name, job->vm_state,     job->stall_reason};
    for (size_t i = 0; i < G_N_ELEMENTS(strings); i++)
        g_free(strings[i]);
    drover_source_vm_clear(&job->source);
    g_clear_pointer(&job->spec, g_bytes_unref);
    drover_fault_clear(&job->error);
    g_array_unref(job->rounds);
    g_ptr_array_unref(job->ledger);
    g_ptr_array_unref(job->operations);
    g_ptr_array_unref(job->disks);
    g_free(job);
}

DroverDisk *drover_job_add_disk(DroverJob *job, const char *disk_id)
{
    DroverDisk *disk = g_new0(DroverDisk, 1);
    disk->disk_id = g_strdup(disk_id);
    char **strings[] = {&disk->format,       &disk->volume_id, &disk->device_path,        &disk->export_name,
                        &disk->nbd_host,     &disk->change_id, &disk->previous_change_id, &disk->receipt,
                        &disk->round_digest, &disk->vm_id,     &disk->previous_receipt,   &disk->found_change_id,
                        &disk->datastore,    &disk->base_change_id};
    for (size_t i = 0; i < G_N_ELEMENTS(strings); i++)
        *strings[i] = g_strdup("");
    disk->buckets = g_array_new(false, true, sizeof(uint64_t));
    disk->tasks = g_ptr_array_new_with_free_func(task_free);
    disk->retired = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(job->disks, disk);
    return disk;
}

DroverDisk *drover_job_disk(const DroverJob *job, const char *disk_id)
{
    for (guint i = 0; i < job->disks->len; i++) {
        DroverDisk *disk = job->disks->pdata[i];
        if (g_strcmp0(disk->disk_id, disk_id) == 0)
            return disk;
    }
    return NULL;
}

DroverTask *drover_disk_add_task(DroverDisk *disk, const char *task_id, DroverTaskKind kind)
{
    DroverTask *task = g_new0(DroverTask, 1);
    task->task_id = g_strdup(task_id);
    task->kind = kind;
    task->status = DROVER_TASK_READY;
    task->owner_process = g_strdup("");
    task->owner_instance = g_strdup("");
    task->partition = -1;
    task->dirty = true;
    task->checkpoint_keys = g_array_new(false, false, sizeof(DroverCheckpointKey));
    g_array_set_clear_func(task->checkpoint_keys, clear_checkpoint_key);
    g_ptr_array_add(disk->tasks, task);
    return task;
}

DroverTask *drover_disk_task(const DroverDisk *disk, const char *task_id)
{
    for (guint i = 0; i < disk->tasks->len; i++) {
        DroverTask *task = disk->tasks->pdata[i];
        if (g_strcmp0(task->task_id, task_id) == 0)
            return task;
    }
    return NULL;
}

DroverTask *drover_job_task(const DroverJob *job, const char *task_id, DroverDisk **disk)
{
    for (guint i = 0; i < job->disks->len; i++) {
        DroverTask *task = drover_disk_task(job->disks->pdata[i], task_id);
        if (task != NULL) {
            if (disk != NULL)
                *disk = job->disks->pdata[i];
            return task;
        }
    }
    return NULL;
}

bool drover_task_is_live(const DroverTask *task)
{
    return task->status == DROVER_TASK_ASSIGNED || task->status == DROVER_TASK_CLAIMED;
}

bool drover_task_is_ended(const DroverTask *task)
{
    return task->status == DROVER_TASK_DONE || task->status == DROVER_TASK_FAILED ||
           task->status == DROVER_TASK_CANCELLED;
}

bool drover_task_moves_data(const DroverTask *task)
{
    return task->kind == DROVER_TASK_COPY || task->kind == DROVER_TASK_REPAIR;
}
