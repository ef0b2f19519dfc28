/* SPDX-License-Identifier: Apache-2.0 */
/* Inputs of the job machine: commands and results change facts, then the machine does what is next. */
#include "core/job/job.h"

#include "core/task/cells.h"
#include "core/job/internal.h"
#include "core/task/task.h"
#include "core/task/verify.h"
#include "lib/base/ids.h"

static void output_free(void *data)
{
    DroverOutput *output = data;
    drover_operation_free(output->operation);
    g_free(output->disk_id);
    g_free(output->message);
    g_free(output);
}

GPtrArray *drover_outputs_new(void)
{
    return g_ptr_array_new_with_free_func(output_free);
}

void drover_outputs_audit(GPtrArray *outputs, const char *level, const char *event, const char *disk_id,
                          const char *format, ...)
{
    va_list args;
    va_start(args, format);
    DroverOutput *output = g_new0(DroverOutput, 1);
    output->kind = DROVER_OUTPUT_AUDIT;
    output->level = level;
    output->event = event;
    output->disk_id = g_strdup(disk_id);
    output->message = g_strdup_vprintf(format, args);
    g_ptr_array_add(outputs, output);
    va_end(args);
}

void drover_step_enter(Step *step, DroverPhase phase)
{
    DroverJob *job = step->job;
    if (job->phase == phase)
        return;
    g_assert(drover_phase_may_follow(job->phase, phase));
    job->phase = phase;
    job->phase_started_at_ms[phase] = step->at->now_ms;
    if (drover_phase_is_ended(phase)) {
        if (job->completed_at_ms == 0)
            job->completed_at_ms = step->at->now_ms;
        drover_set_string(&job->stall_reason, "");
    }
    job->dirty = true;
    job->control_dirty = true;
    drover_outputs_audit(step->outputs, phase == DROVER_PHASE_FAILED ? "error" : "info", "job.state", NULL,
                         "Job is %s%s%s", drover_phase_name(phase), phase == DROVER_PHASE_FAILED ? ": " : "",
                         phase == DROVER_PHASE_FAILED && job->error.message != NULL ? job->error.message
                                                                                    : "");
}

/* Once the round is final, a failed hand-over must not cost the copy: the volumes stay, listed in the ledger.
 */
static bool round_is_final(const DroverJob *job)
{
    for (guint i = 0; i < job->disks->len; i++)
        if (*((const DroverDisk *)job->disks->pdata[i])->receipt == '\0')
            return false;
    return job->disks->len > 0;
}

void drover_step_fail(Step *step, const DroverFault *fault)
{
    DroverJob *job = step->job;
    if (drover_phase_is_ended(job->phase) || drover_phase_is_undoing(job->phase))
        return;
    if (g_str_equal(job->failover_status, "completed")) { /* nothing is worth taking a VM away that serves already */
        drover_outputs_audit(step->outputs, "error", "job.error", NULL, "%s", fault->message);
        return;
    }
    drover_fault_copy(&job->error, fault);
    job->keep_volumes = job->round > 0 || round_is_final(job); /* an earlier round is worth a comparison */
    drover_outputs_audit(step->outputs, "error", "job.error", NULL, "%s", fault->message);
    if (*job->failover_status != '\0')
        drover_set_string(&job->failover_status, "failed");
    drover_step_begin_undo(step, DROVER_PHASE_FAILING);
}

void drover_step_call_off(Step *step, const DroverFault *fault)
{
    DroverJob *job = step->job;
    job->failover_requested = false;
    job->final_round = false;
    job->dirty = true;
    drover_set_string(&job->failover_status, "failed");
    drover_outputs_audit(step->outputs, "error", "job.failover-stopped", NULL,
                         "The failover is called off, the copy is kept and the source goes on running: %s", fault->message);
    if (job->phase == DROVER_PHASE_CUTOVER)
        drover_step_enter(step, job->round_interval_ms > 0 ? DROVER_PHASE_REPLICATING : DROVER_PHASE_PARKING);
}

static void refuse(Step *step, const char *what, const char *why)
{
    drover_outputs_audit(step->outputs, "warning", "job.command-refused", NULL, "%s refused: %s", what, why);
}

static void cancel(Step *step, const char *reason)
{
    DroverJob *job = step->job;
    if (drover_phase_is_ended(job->phase)) {
        refuse(step, "Cancelling", "the job has ended already; \"drover cleanup\" removes what it left");
        return;
    }
    if (job->phase == DROVER_PHASE_CANCELLING || job->phase == DROVER_PHASE_CLEANING)
        return;
    if (g_str_equal(job->failover_status, "completed")) {
        refuse(step, "Cancelling", "the target VM runs already; the job ends when the source's snapshot is removed");
        return;
    }
    drover_outputs_audit(step->outputs, "info", "job.cancelled", NULL, "Cancelled%s%s",
                         reason != NULL && *reason != '\0' ? ": " : "", reason != NULL ? reason : "");
    job->paused = false;
    job->keep_volumes = false;
    if (*job->failover_status != '\0')
        drover_set_string(&job->failover_status, "failed");
    drover_step_begin_undo(step, DROVER_PHASE_CANCELLING);
}

static void cleanup(Step *step, bool keep_volumes)
{
    DroverJob *job = step->job;
    if (!drover_phase_is_ended(job->phase)) {
        refuse(step, "Cleaning up", "the job has not ended; cancel it first");
        return;
    }
    if (job->ledger->len == 0) {
        drover_outputs_audit(step->outputs, "info", "job.clean", NULL, "Nothing is left to clean up");
        return;
    }
    job->after_cleaning = job->phase;
    job->keep_volumes = keep_volumes;
    drover_step_begin_undo(step, DROVER_PHASE_CLEANING);
}

static bool has_all_volumes(const DroverJob *job)
{
    for (guint i = 0; i < job->disks->len; i++)
        if (*((const DroverDisk *)job->disks->pdata[i])->volume_id == '\0')
            return false;
    return true;
}

static void failover(Step *step, const DroverInput *input)
{
    DroverJob *job = step->job;
    bool ended = job->phase == DROVER_PHASE_COMPLETED || job->phase == DROVER_PHASE_FAILED;
    if (input->failover != DROVER_FAILOVER_LIVE) {
        refuse(step, "Failover", "DRV-FAILOVER-KIND: only live failover is supported");
        return;
    }
    if (g_str_equal(job->failover_status, "completed") || (job->failover_requested && !ended)) {
        refuse(step, "Failover", "it is done or under way already");
        return;
    }
    if (drover_phase_is_undoing(job->phase) || (drover_phase_is_ended(job->phase) && !ended) ||
        (ended && (!round_is_final(job) || !has_all_volumes(job)))) {
        refuse(step, "Failover", "the job has no finished copy to hand over");
        return;
    }
    if (input->spec != NULL) {
        g_bytes_unref(job->spec);
        job->spec = g_bytes_ref(input->spec);
    }
    job->failover_requested = true;
    job->target_checked = false; /* what there is no VM for need not have room for one */
    job->failover_kind = input->failover;
    drover_set_string(&job->failover_status, "pending");
    job->failover_started_at_ms = step->at->now_ms;
    job->failover_completed_at_ms = 0;
    job->vm_op_failures = 0;
    job->dirty = true;
    drover_outputs_audit(step->outputs, "info", "job.failover", NULL, "Live failover asked for");
    if (ended && drover_source_goes_off(job)) {
        drover_step_begin_round(step, job->phase == DROVER_PHASE_FAILED ? DROVER_SYNC_DEEP_VERIFY : 0);
    } else if (ended) {
        drover_fault_clear(&job->error);
        job->completed_at_ms = 0;
        drover_step_enter(step, DROVER_PHASE_CUTOVER);
    }
}

static void pause_or_resume(Step *step, bool pause)
{
    DroverJob *job = step->job;
    if (drover_phase_is_ended(job->phase) || drover_phase_is_undoing(job->phase)) {
        refuse(step, pause ? "Pausing" : "Resuming", "the job has ended or is being undone");
        return;
    }
    if (job->paused == pause)
        return;
    job->paused = pause;
    job->dirty = true;
    job->control_dirty = true;
    drover_outputs_audit(step->outputs, "info", pause ? "job.paused" : "job.resumed", NULL, "%s",
                         pause ? "Paused" : "Resumed");
}

static uint64_t planned_bytes(const DroverDisk *disk)
{
    uint64_t sum = 0;
    for (guint i = 0; i < disk->tasks->len; i++)
        sum += ((const DroverTask *)disk->tasks->pdata[i])->planned_bytes;
    return sum;
}

static void inspected(Step *step, const DroverInput *input)
{
    DroverDisk *disk = drover_job_disk(step->job, input->disk_id);
    const DroverInspection *found = input->inspection;
    DroverPhase when = step->job->source.present ? DROVER_PHASE_PREPARE : DROVER_PHASE_PREFLIGHT;
    if (disk == NULL || step->job->phase != when || drover_job_is_inspected(step->job, disk))
        return;
    DroverFault fault = {0};
    if (found->capacity_bytes == 0) {
        drover_fault_set(&fault, DROVER_ERROR_PERMANENT, "DRV-SOURCE-EMPTY",
                         "DRV-SOURCE-EMPTY: the source of disk %s has no bytes", disk->disk_id);
    } else if (!found->frozen) {
        drover_fault_set(
            &fault, DROVER_ERROR_PERMANENT, "DRV-SOURCE-NOT-FROZEN",
            "DRV-SOURCE-NOT-FROZEN: somebody may be writing to the source of disk %s; stop the writer or "
            "copy from a snapshot",
            disk->disk_id);
    }
    if (fault.error_class == 0)
        drover_step_decide_round(step, disk, found, &fault);
    if (fault.error_class != 0) {
        drover_step_fail(step, &fault);
        drover_fault_clear(&fault);
        return;
    }
    g_clear_pointer(&disk->identity, g_bytes_unref);
    disk->identity = found->identity != NULL ? g_bytes_ref(found->identity) : NULL;
    drover_set_string(&disk->found_change_id, found->change_id);
    drover_set_string(&disk->format, found->format);
    disk->capacity_bytes = found->capacity_bytes;
    disk->extents_available = found->extents_available;
    disk->allocated_bytes =
        found->extents_available ? MIN(found->allocated_bytes, found->capacity_bytes) : found->capacity_bytes;
    if (disk->sync_type == DROVER_SYNC_INCREMENTAL)
        disk->allocated_bytes = planned_bytes(disk);
    disk->bucket_bytes = found->extents_available && found->n_buckets > 0 ? found->bucket_bytes : 0;
    g_array_set_size(disk->buckets, 0);
    if (disk->bucket_bytes > 0)
        g_array_append_vals(disk->buckets, found->buckets, (guint)found->n_buckets);
    disk->dirty = true;
    drover_outputs_audit(step->outputs, "info", "disk.inspected", disk->disk_id,
                         "%s, %" G_GUINT64_FORMAT " bytes, %" G_GUINT64_FORMAT " in use", disk->format,
                         disk->capacity_bytes, disk->allocated_bytes);
    if (disk->round > 0)
        drover_outputs_audit(step->outputs, "info", "disk.round", disk->disk_id, "Round %u is %s", disk->round,
                             drover_sync_type_name(disk->sync_type));
}

static void poisoned(Step *step, const DroverInput *input)
{
    DroverJob *job = step->job;
    DroverDisk *disk = drover_job_disk(job, input->disk_id);
    if (disk == NULL || job->phase != DROVER_PHASE_COPYING || !disk->export_open)
        return;
    drover_outputs_audit(step->outputs, "warning", "disk.poisoned", disk->disk_id,
                         "Cells that were not read back are void, the export gets a new generation: %s",
                         input->fault->message != NULL ? input->fault->message : "a flush failed");
    disk->export_open = false; /* a newer generation cuts the old one off when it opens */
    drover_cells_void_unverified(disk->cells);
    for (guint i = 0; i < disk->tasks->len; i++) {
        DroverTask *task = disk->tasks->pdata[i];
        if (drover_task_moves_data(task))
            drover_task_revoke(task, step->at);
    }
    disk->dirty = true;
    job->control_dirty = true;
}

static void apply(Step *step, const DroverInput *input)
{
    DroverJob *job = step->job;
    switch (input->kind) {
    case DROVER_INPUT_TICK:
        break;
    case DROVER_INPUT_CANCEL:
        cancel(step, input->text);
        break;
    case DROVER_INPUT_FAILOVER:
        failover(step, input);
        break;
    case DROVER_INPUT_CLEANUP:
        cleanup(step, input->keep_volumes);
        break;
    case DROVER_INPUT_PAUSE:
    case DROVER_INPUT_RESUME:
        pause_or_resume(step, input->kind == DROVER_INPUT_PAUSE);
        break;
    case DROVER_INPUT_SYNC:
        drover_step_sync(step, input);
        break;
    case DROVER_INPUT_INSPECTED:
        inspected(step, input);
        break;
    case DROVER_INPUT_AGENT:
        if (drover_job_wants_agent(job)) {
            job->dirty |= drover_set_string(&job->agent, input->text);
            drover_outputs_audit(step->outputs, "info", "job.agent", NULL, "Home appliance is %s",
                                 input->text);
        }
        break;
    case DROVER_INPUT_MOVE:
        drover_step_move_to(step, input->text);
        break;
    case DROVER_INPUT_OPERATION_DONE:
        drover_step_operation_done(step, input->operation_id, input->result);
        break;
    case DROVER_INPUT_OPERATION_FAILED:
        drover_step_operation_failed(step, input->operation_id, input->fault);
        break;
    case DROVER_INPUT_FAULT:
        drover_step_fail(step, input->fault);
        break;
    case DROVER_INPUT_POISONED:
        poisoned(step, input);
        break;
    case DROVER_INPUT_SOURCE_DONE:
        drover_step_source_done(step, input->action, input->source);
        break;
    case DROVER_INPUT_SOURCE_FAILED:
        drover_step_source_failed(step, input->action, input->fault);
        break;
    }
}

void drover_job_step(DroverJob *job, const DroverInput *input, const DroverLimits *limits, const DroverAt *at,
                     GPtrArray *outputs)
{
    Step step = {job, limits, at, outputs};
    apply(&step, input);
    /* One phase may lead straight to the next; it ends because phases only go forward. */
    for (DroverPhase before = (DroverPhase)0; before != job->phase;) {
        before = job->phase;
        if (drover_phase_is_undoing(job->phase))
            drover_step_undo(&step);
        else if (!drover_phase_is_ended(job->phase))
            drover_step_forward(&step);
    }
}

bool drover_job_wants_agent(const DroverJob *job)
{
    return job->phase == DROVER_PHASE_PREPARE && *job->agent == '\0' && !job->paused;
}

void drover_job_set_stall(DroverJob *job, const char *reason)
{
    if (drover_set_string(&job->stall_reason, reason))
        job->dirty = true;
}

bool drover_job_repair(DroverJob *job, DroverDisk *disk, uint64_t first, uint64_t last,
                       const DroverLimits *limits, const DroverAt *at, GPtrArray *outputs)
{
    DroverRange range = {first * DROVER_CELL_BYTES,
                         MIN((last + 1) * DROVER_CELL_BYTES, disk->capacity_bytes) -
                             first * DROVER_CELL_BYTES};
    uint32_t repairs = 0, number = 0;
    for (guint i = 0; i < disk->tasks->len; i++) {
        const DroverTask *task = disk->tasks->pdata[i];
        if (task->kind != DROVER_TASK_REPAIR)
            continue;
        number++;
        repairs += task->range.offset < range.offset + range.length &&
                   range.offset < task->range.offset + task->range.length;
    }
    if (repairs >= limits->max_repairs) {
        DroverFault fault = {0};
        drover_fault_set(
            &fault, DROVER_ERROR_PERMANENT, "DRV-TARGET-CORRUPT",
            "DRV-TARGET-CORRUPT: volume %s of disk %s does not keep what is written to it: the bytes from "
            "%" G_GUINT64_FORMAT " on differ after %u repairs; check the target's storage",
            disk->volume_id, disk->disk_id, range.offset, repairs);
        DroverInput input = {.kind = DROVER_INPUT_FAULT, .fault = &fault};
        drover_job_step(job, &input, limits, at, outputs);
        drover_fault_clear(&fault);
        return false;
    }
    g_autofree char *rest = g_strdup_printf("%" G_GUINT64_FORMAT "-%u", range.offset, number + 1);
    g_autofree char *task_id = drover_task_id(job->job_id, disk->disk_id, disk->round, "repair", rest);
    DroverTask *task = drover_disk_add_task(disk, task_id, DROVER_TASK_REPAIR);
    task->range = range;
    task->round = disk->round;
    task->generation = disk->generation;
    task->updated_at_ms = at->now_ms;
    for (uint64_t i = first; i <= last; i++) {
        disk->cells->cell[i].checkpointed = false;
        disk->cells->cell[i].repairing = true;
    }
    disk->repaired_cells += (uint32_t)(last - first + 1);
    disk->dirty = true;
    drover_outputs_audit(outputs, "warning", "disk.repair", disk->disk_id,
                         "Read-back of %" G_GUINT64_FORMAT " cells from byte %" G_GUINT64_FORMAT
                         " differs from the source; writing them again",
                         last - first + 1, range.offset);
    return true;
}
