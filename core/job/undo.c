/* SPDX-License-Identifier: Apache-2.0 */
/* Undoing: tasks are revoked, operations under way are waited for, then the ledger is undone from its end. */
#include "core/job/internal.h"

#include "core/task/cells.h"
#include "core/task/task.h"
#include "core/task/verify.h"

void drover_step_begin_undo(Step *step, DroverPhase phase)
{
    DroverJob *job = step->job;
    drover_set_string(&job->moving_to, "");
    for (guint d = 0; d < job->disks->len; d++) {
        DroverDisk *disk = job->disks->pdata[d];
        for (guint t = 0; t < disk->tasks->len; t++) {
            DroverTask *task = disk->tasks->pdata[t];
            if (task->kind != DROVER_TASK_SOURCE_VM) /* see drover_step_source_quiet */
                drover_task_cancel(task, step->at);
        }
        if (disk->sync_status != DROVER_SYNC_COMPLETED && disk->sync_status != DROVER_SYNC_FAILED) {
            disk->sync_status = DROVER_SYNC_FAILED;
            disk->dirty = true;
        }
        g_clear_pointer(&disk->cells, drover_cells_free);
        g_clear_pointer(&disk->verify, drover_verify_free);
    }
    for (guint i = 0; i < job->ledger->len; i++) {
        DroverLedgerEntry *entry = job->ledger->pdata[i];
        entry->undo_failures = 0;
        entry->undo_not_before_ms = 0;
    }
    drover_step_enter(step, phase);
}

/* Volumes that are kept leave the VM before it is destroyed: expunging it deletes its ROOT, also a swapped-in
 * one. */
static bool rescue_volumes(Step *step)
{
    DroverJob *job = step->job;
    for (guint i = 0; i < job->disks->len; i++) {
        DroverDisk *disk = job->disks->pdata[i];
        if (*disk->vm_id == '\0')
            continue;
        if (!g_str_equal(job->vm_state, "Stopped"))
            drover_step_operation(step, DROVER_OP_STOP_VM, NULL, true);
        else
            drover_step_operation(step, DROVER_OP_DETACH_VOLUME, disk, true);
        return true;
    }
    return false;
}

static void undo_entry(Step *step, const DroverLedgerEntry *entry)
{
    DroverDisk *disk = drover_job_disk(step->job, entry->disk_id);
    switch (entry->kind) {
    case DROVER_LEDGER_EXPORT:
        drover_step_operation(step, DROVER_OP_CLOSE_EXPORT, disk, true);
        break;
    case DROVER_LEDGER_ATTACHMENT:
        drover_step_operation(step, DROVER_OP_DETACH_VOLUME, disk, true);
        break;
    case DROVER_LEDGER_VOLUME:
        drover_step_operation(step, DROVER_OP_DELETE_VOLUME, disk, true);
        break;
    case DROVER_LEDGER_VM:
        if (!step->job->keep_volumes || !rescue_volumes(step))
            drover_step_operation(step, DROVER_OP_DESTROY_VM, NULL, true);
        break;
    case DROVER_LEDGER_SNAPSHOT:
    case DROVER_LEDGER_SOURCE_POWER:
        drover_step_source_undo(step, entry);
        break;
    default:
        break;
    }
}

static bool is_ours(const DroverLedgerEntry *entry)
{
    return (entry->kind >= DROVER_LEDGER_VOLUME && entry->kind <= DROVER_LEDGER_SNAPSHOT) ||
           entry->kind == DROVER_LEDGER_SOURCE_POWER;
}

static bool stays(const Step *step, const DroverLedgerEntry *entry)
{
    return !is_ours(entry) || (step->job->keep_volumes && entry->kind == DROVER_LEDGER_VOLUME) ||
           entry->undo_failures >= step->limits->max_failures;
}

static void finish(Step *step)
{
    DroverJob *job = step->job;
    g_autofree char *left = drover_ledger_describe(job, job->keep_volumes);
    if (*left != '\0')
        drover_outputs_audit(step->outputs, "error", "job.left-over", NULL,
                             "DRV-LEFT-OVER: could not be removed: %s; \"drover cleanup %s\" tries again",
                             left, job->job_id);
    switch (job->phase) {
    case DROVER_PHASE_FAILING:
        drover_step_enter(step, DROVER_PHASE_FAILED);
        break;
    case DROVER_PHASE_CANCELLING:
        drover_step_enter(step, DROVER_PHASE_CANCELLED);
        break;
    default:
        drover_step_enter(step, drover_phase_is_ended(job->after_cleaning) ? job->after_cleaning
                                                                           : DROVER_PHASE_CANCELLED);
        break;
    }
}

/* The source VM must not run while the target VM may: that one goes first, and while it cannot go, the source stays off. */
static bool waits_for_target(const DroverJob *job, const DroverLedgerEntry *entry)
{
    return entry->kind == DROVER_LEDGER_SOURCE_POWER && drover_ledger_find(job, DROVER_LEDGER_VM, "") != NULL;
}

void drover_step_undo(Step *step)
{
    DroverJob *job = step->job;
    if (job->operations->len > 0 || !drover_step_source_quiet(step))
        return;
    for (guint i = job->ledger->len; i-- > 0;) {
        const DroverLedgerEntry *entry = job->ledger->pdata[i];
        if (stays(step, entry) || waits_for_target(job, entry))
            continue;
        if (step->at->now_ms >= entry->undo_not_before_ms)
            undo_entry(step, entry);
        return;
    }
    finish(step);
}
