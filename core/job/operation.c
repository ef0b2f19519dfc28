/* SPDX-License-Identifier: Apache-2.0 */
/* Operations at the volume agent: how they are asked for, and what their results change. */
#include "core/job/internal.h"

#include "core/backoff.h"
#include "lib/base/ids.h"

bool drover_job_has_operations(const DroverJob *job, const char *disk_id)
{
    for (guint i = 0; i < job->operations->len; i++) {
        const DroverOperation *operation = job->operations->pdata[i];
        if (disk_id == NULL || g_strcmp0(operation->disk_id, disk_id) == 0)
            return true;
    }
    return false;
}

bool drover_step_may_operate(const Step *step, const DroverDisk *disk)
{
    if (drover_job_has_operations(step->job, disk != NULL ? disk->disk_id : ""))
        return false;
    return step->at->now_ms >= (disk != NULL ? disk->op_not_before_ms : step->job->vm_op_not_before_ms);
}

/* CloudStack's deviceid for the N-th data disk: 0 is ROOT, 3 is never given out. */
static uint32_t device_id_of(const DroverJob *job, const DroverDisk *disk)
{
    uint32_t index = 0;
    g_ptr_array_find(job->disks, disk, &index);
    return index < 3 ? index : index + 1;
}

/* Lists what the operation makes, before it is sent. */
static void enter_in_ledger(Step *step, DroverOperation *op)
{
    DroverLedgerEntry *entry = NULL;
    int64_t now_ms = step->at->now_ms;
    switch (op->kind) {
    case DROVER_OP_CREATE_VOLUME:
        entry = drover_ledger_intend(step->job, DROVER_LEDGER_VOLUME, op->disk_id, op->operation_id, now_ms);
        break;
    case DROVER_OP_ATTACH_VOLUME:
        drover_ledger_intend(step->job, DROVER_LEDGER_ATTACHMENT, op->disk_id, op->operation_id, now_ms);
        return;
    case DROVER_OP_OPEN_EXPORT:
        drover_ledger_intend(step->job, DROVER_LEDGER_EXPORT, op->disk_id, op->operation_id, now_ms);
        return;
    case DROVER_OP_DEPLOY_VM:
        entry = drover_ledger_intend(step->job, DROVER_LEDGER_VM, op->disk_id, op->operation_id, now_ms);
        break;
    default:
        return;
    }
    /* The first operation that meant to make the object names it for all repetitions. */
    op->custom_id = drover_uuid_from(entry->operation_id);
}

/* The object's id, or the one that it was given in advance when the answer never came. */
static char *known_or_custom_id(const DroverJob *job, DroverLedgerKind kind, const char *disk_id,
                                const char *known)
{
    if (*known != '\0')
        return g_strdup(known);
    const DroverLedgerEntry *entry = drover_ledger_find(job, kind, disk_id);
    return entry != NULL ? drover_uuid_from(entry->operation_id) : g_strdup("");
}

static uint64_t size_for(DroverOpKind kind, const DroverDisk *disk)
{
    if (kind == DROVER_OP_CREATE_VOLUME)
        return disk->target_size_bytes;
    return kind == DROVER_OP_ATTACH_VOLUME || kind == DROVER_OP_OPEN_EXPORT ? disk->capacity_bytes : 0;
}

void drover_step_operation(Step *step, DroverOpKind kind, DroverDisk *disk, bool undo)
{
    DroverJob *job = step->job;
    DroverOperation *op = g_new0(DroverOperation, 1);
    const char *disk_id = disk != NULL ? disk->disk_id : "";
    g_autofree char *counter = g_strdup_printf("%u", ++job->operation_counter);
    op->operation_id =
        drover_task_id(job->job_id, disk != NULL ? disk_id : NULL, job->round, drover_op_name(kind), counter);
    op->kind = kind;
    op->disk_id = g_strdup(disk_id);
    op->undo = undo;
    op->requested_at_ms = step->at->now_ms;
    op->vm_id = known_or_custom_id(job, DROVER_LEDGER_VM, "", job->vm_id);
    if (disk != NULL) {
        if (kind == DROVER_OP_OPEN_EXPORT) {
            disk->generation++;
            disk->dirty = true;
            job->control_dirty = true;
        }
        op->volume_id = known_or_custom_id(job, DROVER_LEDGER_VOLUME, disk_id, disk->volume_id);
        op->generation = disk->generation;
        op->device_id = device_id_of(job, disk);
        op->size_bytes = size_for(kind, disk);
    } else {
        op->volume_id = g_strdup("");
    }
    op->forced = kind == DROVER_OP_STOP_VM;
    enter_in_ledger(step, op);
    if (op->custom_id == NULL)
        op->custom_id = g_strdup("");
    g_ptr_array_add(job->operations, op);
    job->dirty = true;
    DroverOutput *output = g_new0(DroverOutput, 1);
    output->kind = DROVER_OUTPUT_OPERATION;
    output->operation = drover_operation_copy(op);
    g_ptr_array_add(step->outputs, output);
}

static DroverOperation *take_operation(DroverJob *job, const char *operation_id)
{
    for (guint i = 0; i < job->operations->len; i++) {
        DroverOperation *op = job->operations->pdata[i];
        if (g_strcmp0(op->operation_id, operation_id) == 0) {
            job->dirty = true;
            return g_ptr_array_steal_index(job->operations, i);
        }
    }
    return NULL;
}

static void fail_answer(Step *step, const DroverOperation *op, const char *what)
{
    DroverFault fault = {0};
    drover_fault_set(&fault, DROVER_ERROR_PERMANENT, "DRV-AGENT-ANSWER",
                     "DRV-AGENT-ANSWER: volume agent %s answered %s without %s", step->job->agent,
                     drover_op_name(op->kind), what);
    drover_step_fail(step, &fault);
    drover_fault_clear(&fault);
}

static void volume_created(Step *step, const DroverOperation *op, DroverDisk *disk,
                           const DroverOperationResult *result)
{
    if (result->volume_id == NULL || *result->volume_id == '\0') {
        fail_answer(step, op, "a volume id");
        return;
    }
    drover_set_string(&disk->volume_id, result->volume_id);
    drover_ledger_made(step->job, DROVER_LEDGER_VOLUME, op->disk_id, result->volume_id);
}

static void volume_attached(Step *step, const DroverOperation *op, DroverDisk *disk,
                            const DroverOperationResult *result)
{
    drover_ledger_made(step->job, DROVER_LEDGER_ATTACHMENT, op->disk_id, disk->volume_id);
    if (result->device_path == NULL || *result->device_path == '\0') {
        fail_answer(step, op, "a device");
        return;
    }
    drover_set_string(&disk->device_path, result->device_path);
    if (result->device_size_bytes < disk->capacity_bytes) {
        DroverFault fault = {0};
        drover_fault_set(&fault, DROVER_ERROR_PERMANENT, "DRV-TARGET-TOO-SMALL",
                         "DRV-TARGET-TOO-SMALL: volume %s of disk %s has %" G_GUINT64_FORMAT
                         " bytes, the source %" G_GUINT64_FORMAT,
                         disk->volume_id, disk->disk_id, result->device_size_bytes, disk->capacity_bytes);
        drover_step_fail(step, &fault);
        drover_fault_clear(&fault);
    }
}

static void export_opened(Step *step, const DroverOperation *op, DroverDisk *disk,
                          const DroverOperationResult *result)
{
    drover_ledger_made(step->job, DROVER_LEDGER_EXPORT, op->disk_id, disk->volume_id);
    if (result->generation != op->generation || result->token == NULL || *result->token == '\0') {
        fail_answer(step, op, "the generation and token asked for");
        return;
    }
    drover_set_string(&disk->export_name, result->export_name);
    drover_set_string(&disk->nbd_host, result->nbd_host);
    disk->nbd_port = result->nbd_port;
    g_free(disk->token);
    disk->token = g_strdup(result->token);
    disk->token_generation = result->generation;
    disk->export_open = true;
    step->job->control_dirty = true;
}

static void export_closed(Step *step, const DroverOperation *op, DroverDisk *disk)
{
    drover_ledger_gone(step->job, DROVER_LEDGER_EXPORT, op->disk_id);
    disk->export_open = false;
    step->job->control_dirty = true;
    if (step->job->phase == DROVER_PHASE_COPYING && drover_disk_is_copied(disk))
        drover_step_round_end(step, disk);
}

static void volume_detached(Step *step, const DroverOperation *op, DroverDisk *disk)
{
    /* Detaching leaves it attached to nothing, whoever had it. */
    drover_ledger_gone(step->job, DROVER_LEDGER_ATTACHMENT, op->disk_id);
    drover_set_string(&disk->device_path, "");
    drover_set_string(&disk->vm_id, "");
}

static void disk_done(Step *step, const DroverOperation *op, DroverDisk *disk,
                      const DroverOperationResult *result)
{
    disk->op_failures = 0;
    disk->dirty = true;
    switch (op->kind) {
    case DROVER_OP_CREATE_VOLUME:
        volume_created(step, op, disk, result);
        break;
    case DROVER_OP_ATTACH_VOLUME:
        volume_attached(step, op, disk, result);
        break;
    case DROVER_OP_OPEN_EXPORT:
        export_opened(step, op, disk, result);
        break;
    case DROVER_OP_CLOSE_EXPORT:
        export_closed(step, op, disk);
        break;
    case DROVER_OP_DETACH_VOLUME:
        volume_detached(step, op, disk);
        break;
    case DROVER_OP_DELETE_VOLUME:
        drover_ledger_gone(step->job, DROVER_LEDGER_VOLUME, op->disk_id);
        drover_set_string(&disk->volume_id, "");
        break;
    case DROVER_OP_SWAP_ROOT:
    case DROVER_OP_ATTACH_TO_VM:
        drover_set_string(&disk->vm_id, op->vm_id);
        break;
    default:
        break;
    }
}

static void vm_gone(DroverJob *job)
{
    drover_ledger_gone(job, DROVER_LEDGER_VM, "");
    drover_set_string(&job->vm_id, "");
    drover_set_string(&job->vm_state, "");
    for (guint i = 0; i < job->disks->len; i++) {
        DroverDisk *disk = job->disks->pdata[i];
        disk->dirty |= drover_set_string(&disk->vm_id, "");
    }
}

static void vm_done(Step *step, const DroverOperation *op, const DroverOperationResult *result)
{
    DroverJob *job = step->job;
    const char *state = result->vm_state != NULL ? result->vm_state : "";
    job->vm_op_failures = 0;
    switch (op->kind) {
    case DROVER_OP_DEPLOY_VM:
        if (result->vm_id == NULL || *result->vm_id == '\0') {
            fail_answer(step, op, "a VM id");
            return;
        }
        drover_set_string(&job->vm_id, result->vm_id);
        drover_set_string(&job->vm_name, job->name);
        drover_set_string(&job->vm_state, *state != '\0' ? state : "Stopped");
        drover_ledger_made(job, DROVER_LEDGER_VM, "", result->vm_id);
        break;
    case DROVER_OP_START_VM:
        drover_set_string(&job->vm_state, *state != '\0' ? state : "Running");
        break;
    case DROVER_OP_STOP_VM:
        drover_set_string(&job->vm_state, *state != '\0' ? state : "Stopped");
        break;
    case DROVER_OP_DESTROY_VM:
        vm_gone(job);
        break;
    case DROVER_OP_PREFLIGHT_TARGET:
        job->target_checked = true;
        break;
    default:
        break;
    }
}

void drover_step_operation_done(Step *step, const char *operation_id, const DroverOperationResult *result)
{
    g_autoptr(GPtrArray) keep = g_ptr_array_new_with_free_func((GDestroyNotify)drover_operation_free);
    DroverOperation *op = take_operation(step->job, operation_id);
    if (op == NULL)
        return; /* known already: journals are read from their beginning */
    g_ptr_array_add(keep, op);
    DroverDisk *disk = *op->disk_id != '\0' ? drover_job_disk(step->job, op->disk_id) : NULL;
    if (disk != NULL)
        disk_done(step, op, disk, result);
    else
        vm_done(step, op, result);
}

/* The ledger entry that an undoing operation removes, or NULL. */
static DroverLedgerEntry *undone_entry(const DroverJob *job, const DroverOperation *op)
{
    switch (op->kind) {
    case DROVER_OP_CLOSE_EXPORT:
        return drover_ledger_find(job, DROVER_LEDGER_EXPORT, op->disk_id);
    case DROVER_OP_DETACH_VOLUME: {
        DroverLedgerEntry *attached = drover_ledger_find(job, DROVER_LEDGER_ATTACHMENT, op->disk_id);
        return attached != NULL ? attached : drover_ledger_find(job, DROVER_LEDGER_VM, "");
    }
    case DROVER_OP_DELETE_VOLUME:
        return drover_ledger_find(job, DROVER_LEDGER_VOLUME, op->disk_id);
    case DROVER_OP_STOP_VM:
    case DROVER_OP_DESTROY_VM:
        return drover_ledger_find(job, DROVER_LEDGER_VM, "");
    default:
        return NULL;
    }
}

static int64_t next_try(const Step *step, uint32_t failures)
{
    return step->at->now_ms + drover_backoff_ms(failures, step->limits->backoff_first_ms,
                                                step->limits->backoff_max_ms, step->at->random);
}

void drover_step_operation_failed(Step *step, const char *operation_id, const DroverFault *fault)
{
    g_autoptr(GPtrArray) keep = g_ptr_array_new_with_free_func((GDestroyNotify)drover_operation_free);
    DroverJob *job = step->job;
    DroverOperation *op = take_operation(job, operation_id);
    if (op == NULL)
        return;
    g_ptr_array_add(keep, op);
    drover_outputs_audit(step->outputs, "warning", "operation.failed", op->disk_id, "%s failed: %s",
                         drover_op_name(op->kind),
                         fault->message != NULL ? fault->message : "no reason given");
    if (op->undo) {
        DroverLedgerEntry *entry = undone_entry(job, op);
        if (entry != NULL) {
            entry->undo_failures++;
            entry->undo_not_before_ms = next_try(step, entry->undo_failures);
        }
        return;
    }
    if (drover_phase_is_undoing(job->phase))
        return; /* what it may have made is in the ledger */
    if (op->kind == DROVER_OP_PREFLIGHT_TARGET && g_strcmp0(fault->code, "DRV-OPERATION-UNKNOWN") == 0) {
        job->target_checked = true; /* an agent of an older version: as it was then */
        return;
    }
    DroverDisk *disk = *op->disk_id != '\0' ? drover_job_disk(job, op->disk_id) : NULL;
    uint32_t *failures = disk != NULL ? &disk->op_failures : &job->vm_op_failures;
    int64_t *not_before = disk != NULL ? &disk->op_not_before_ms : &job->vm_op_not_before_ms;
    if (fault->error_class == DROVER_ERROR_RETRYABLE && ++*failures < step->limits->max_failures) {
        *not_before = next_try(step, *failures);
        return;
    }
    if (op->kind == DROVER_OP_PREFLIGHT_TARGET && job->ledger->len > 0)
        drover_step_call_off(step, fault);
    else
        drover_step_fail(step, fault);
}
