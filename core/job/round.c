/* SPDX-License-Identifier: Apache-2.0 */
/* Rounds after the first: when one begins, of which kind it is for each disk, and what follows its end. */
#include "core/job/internal.h"

#include "core/task/planner.h"
#include "lib/base/ids.h"

/* In one task: half of what fits into a record, because its last cell may add as many. */
#define AREAS_A_TASK 16000u
#define GIB (UINT64_C(1) << 30)

/* A last round over much data would be a long downtime: what changed meanwhile is copied first, for as long as that
 * makes the next round clearly smaller. */
#define LAST_ROUND_MS 60000
#define ROUNDS_BEFORE_LAST 3

bool drover_job_is_inspected(const DroverJob *job, const DroverDisk *disk)
{
    bool first = disk->round == 0 && !job->source.present;
    return disk->capacity_bytes > 0 && (first || disk->sync_type != 0);
}

static bool last_round_is_due(const DroverJob *job)
{
    const DroverRoundSummary *last = NULL, *before = NULL;
    unsigned since_asked = 0;
    for (guint i = 0; i < job->rounds->len; i++) {
        before = last;
        last = &g_array_index(job->rounds, DroverRoundSummary, i);
        since_asked += last->round > 0 && last->started_at_ms >= job->failover_started_at_ms;
    }
    if (drover_job_is_rebasing(job))
        return false;
    return last == NULL || drover_source_is_off(job) || last->finished_at_ms - last->started_at_ms <= LAST_ROUND_MS ||
           since_asked >= ROUNDS_BEFORE_LAST ||
           (since_asked > 0 && before != NULL && last->moved_bytes > before->moved_bytes / 4 * 3);
}

static void retire_tasks(DroverDisk *disk)
{
    for (guint i = 0; i < disk->tasks->len; i++)
        g_ptr_array_add(disk->retired, g_strdup(((const DroverTask *)disk->tasks->pdata[i])->task_id));
    g_ptr_array_set_size(disk->tasks, 0);
}

static void begin_disk(Step *step, DroverDisk *disk)
{
    const DroverJob *job = step->job;
    retire_tasks(disk);
    disk->round = job->round;
    disk->sync_type = 0;
    if (*disk->receipt != '\0')
        drover_set_string(&disk->previous_receipt, disk->receipt);
    drover_set_string(&disk->receipt, "");
    drover_set_string(&disk->round_digest, "");
    drover_set_string(&disk->found_change_id, "");
    disk->final_counts = (DroverCounts){0};
    disk->repaired_cells = 0;
    disk->verified_bytes = 0;
    disk->op_failures = 0;
    disk->op_not_before_ms = 0;
    disk->sync_status = DROVER_SYNC_INSPECTING;
    disk->dirty = true;
    g_autofree char *task_id = drover_task_id(job->job_id, disk->disk_id, job->round, "inspect", "0");
    DroverTask *task = drover_disk_add_task(disk, task_id, DROVER_TASK_INSPECT);
    task->round = job->round;
    task->updated_at_ms = step->at->now_ms;
}

/* The comparison before the cutover: of a source that is switched off for the last round, while it still runs. */
static bool comparison_is_due(const DroverJob *job)
{
    for (guint i = 0; i < job->rounds->len && drover_source_goes_off(job); i++) {
        const DroverRoundSummary *round = &g_array_index(job->rounds, DroverRoundSummary, i);
        if (round->sync_type == DROVER_SYNC_DEEP_VERIFY && round->started_at_ms >= job->failover_started_at_ms)
            return false;
    }
    return job->deep_verify_before_cutover;
}

void drover_step_begin_round(Step *step, int sync_type)
{
    DroverJob *job = step->job;
    if (job->failover_requested && comparison_is_due(job) && !drover_job_is_rebasing(job))
        sync_type = DROVER_SYNC_DEEP_VERIFY;
    job->round++;
    /* A comparison reads all of both sides: never while nobody serves. */
    job->final_round = job->failover_requested && drover_source_goes_off(job) &&
                       sync_type != DROVER_SYNC_DEEP_VERIFY && last_round_is_due(job);
    DroverLedgerEntry *snapshot = drover_ledger_find(job, DROVER_LEDGER_SNAPSHOT, "");
    if (snapshot != NULL)
        snapshot->undo_failures = 0; /* of an earlier round: tried again, before the next is taken */
    job->sync_type = sync_type;
    job->round_started_at_ms = step->at->now_ms;
    job->completed_at_ms = 0;
    drover_fault_clear(&job->error);
    for (guint i = 0; i < job->disks->len; i++)
        begin_disk(step, job->disks->pdata[i]);
    drover_outputs_audit(step->outputs, "info", "job.round", NULL, "Round %u begins", job->round);
    drover_step_enter(step, DROVER_PHASE_PREFLIGHT);
}

/* Why no other round is possible, or NULL. */
static const char *hindrance(const DroverJob *job)
{
    for (guint i = 0; i < job->disks->len; i++) {
        const DroverDisk *disk = job->disks->pdata[i];
        if (*disk->volume_id == '\0')
            return "DRV-SYNC-NO-COPY: the job has no volumes to bring up to date";
        if (*disk->vm_id != '\0' || disk->diverged)
            return "DRV-SYNC-DIVERGED: the volumes belong to the target VM; a round would overwrite what it wrote";
    }
    if (job->disks->len == 0)
        return "DRV-SYNC-NO-COPY: the job has no disks";
    return NULL;
}

static void set_interval(Step *step, uint64_t interval_ms)
{
    DroverJob *job = step->job;
    if (job->round_interval_ms == interval_ms)
        return;
    job->round_interval_ms = interval_ms;
    job->dirty = true;
    drover_outputs_audit(step->outputs, "info", "job.interval", NULL,
                         interval_ms > 0 ? "Rounds begin every %" G_GUINT64_FORMAT " ms from now on"
                                         : "Rounds begin only when told (interval %" G_GUINT64_FORMAT ")",
                         interval_ms);
}

void drover_step_sync(Step *step, const DroverInput *input)
{
    DroverJob *job = step->job;
    const char *why = NULL;
    bool ended = job->phase == DROVER_PHASE_COMPLETED || job->phase == DROVER_PHASE_FAILED;
    if (drover_phase_is_undoing(job->phase) || (drover_phase_is_ended(job->phase) && !ended))
        why = "the job has ended or is being undone";
    else if (input->has_interval && input->interval_ms > 0 && input->interval_ms < DROVER_ROUND_INTERVAL_MIN_MS)
        why = "DRV-SPEC-ROUNDS: rounds cannot begin more often than every second";
    else if (ended)
        why = hindrance(job);
    else if (!input->only_interval && job->phase != DROVER_PHASE_REPLICATING)
        why = "a round is under way";
    else if (job->failover_requested)
        why = "the failover is under way";
    if (why != NULL) {
        drover_outputs_audit(step->outputs, "warning", "job.command-refused", NULL, "Another round refused: %s", why);
        return;
    }
    if (input->has_interval)
        set_interval(step, input->interval_ms);
    if (input->only_interval && (!ended || job->round_interval_ms == 0))
        return;
    job->failover_requested = false; /* of a failover that failed */
    drover_set_string(&job->failover_status, "");
    /* Nobody knows what a failed round has written. */
    drover_step_begin_round(step, job->phase == DROVER_PHASE_FAILED ? DROVER_SYNC_DEEP_VERIFY : input->sync_type);
}

void drover_step_replicating(Step *step)
{
    DroverJob *job = step->job;
    if (!drover_step_source_released(step))
        return;
    if (job->failover_requested || drover_job_is_rebasing(job))
        drover_step_begin_round(step, 0);
    else if (job->round_interval_ms == 0)
        drover_step_enter(step, DROVER_PHASE_PARKING);
    else if (!job->paused && step->at->now_ms - job->round_started_at_ms >= (int64_t)job->round_interval_ms)
        drover_step_begin_round(step, 0);
}

void drover_step_remember_round(Step *step)
{
    DroverJob *job = step->job;
    DroverRoundSummary summary = {
        .round = job->round,
        .started_at_ms = job->round_started_at_ms,
        .finished_at_ms = step->at->now_ms,
    };
    for (guint i = 0; i < job->disks->len; i++) {
        const DroverDisk *disk = job->disks->pdata[i];
        summary.sync_type = MAX(summary.sync_type, disk->sync_type);
        summary.planned_bytes += disk->allocated_bytes;
        summary.moved_bytes += disk->final_counts.data + disk->final_counts.zero_found;
    }
    if (job->rounds->len >= DROVER_ROUNDS_KEPT)
        g_array_remove_index(job->rounds, 0);
    g_array_append_val(job->rounds, summary);
    job->dirty = true;
    bool cut_short = drover_job_is_rebasing(job);
    if (!cut_short)
        job->replicated_until_ms = job->round_started_at_ms;
    drover_outputs_audit(step->outputs, "info", "job.round-done", NULL,
                         "Round %u (%s) is %s: %" G_GUINT64_FORMAT " bytes moved", job->round,
                         drover_sync_type_name(summary.sync_type), cut_short ? "cut short" : "final", summary.moved_bytes);
}

void drover_step_rounds_over(Step *step)
{
    DroverJob *job = step->job;
    drover_step_remember_round(step);
    /* A replicated job is handed over after a round that began when that had been asked for. */
    bool last = drover_source_goes_off(job)
                    ? job->final_round
                    : job->round_interval_ms == 0 || job->round_started_at_ms >= job->failover_started_at_ms;
    if (job->failover_requested && last)
        drover_step_enter(step, DROVER_PHASE_CUTOVER);
    else
        drover_step_enter(step, job->round_interval_ms > 0 || job->failover_requested ? DROVER_PHASE_REPLICATING
                                                                                     : DROVER_PHASE_PARKING);
}

static void plan_areas(Step *step, DroverDisk *disk, const GArray *areas)
{
    uint64_t bytes = 0;
    for (guint i = 0; i < areas->len; i++)
        bytes += g_array_index(areas, DroverRange, i).length;
    g_autoptr(GArray) plan = drover_plan_by_areas(
        areas, disk->capacity_bytes, drover_step_task_bytes(step, bytes), AREAS_A_TASK);
    for (guint i = 0; i < plan->len; i++) {
        const DroverPlannedRange *planned = &g_array_index(plan, DroverPlannedRange, i);
        g_autofree char *rest = g_strdup_printf("%" G_GUINT64_FORMAT, planned->range.offset);
        g_autofree char *task_id = drover_task_id(step->job->job_id, disk->disk_id, disk->round, "copy", rest);
        DroverTask *task = drover_disk_add_task(disk, task_id, DROVER_TASK_COPY);
        task->range = planned->range;
        task->areas = drover_areas_in(areas, &planned->range);
        task->planned_bytes = planned->planned_bytes;
        task->round = disk->round;
        task->updated_at_ms = step->at->now_ms;
    }
}

static bool sizes_allow(const DroverDisk *disk, const DroverInspection *found, DroverFault *fault)
{
    if (found->capacity_bytes < disk->capacity_bytes)
        drover_fault_set(fault, DROVER_ERROR_PERMANENT, "DRV-SOURCE-SHRUNK",
                         "DRV-SOURCE-SHRUNK: the source of disk %s has %" G_GUINT64_FORMAT
                         " bytes now, it had %" G_GUINT64_FORMAT "; migrate it under a new job",
                         disk->disk_id, found->capacity_bytes, disk->capacity_bytes);
    else if (found->capacity_bytes > disk->target_size_bytes)
        drover_fault_set(fault, DROVER_ERROR_PERMANENT, "DRV-TARGET-TOO-SMALL",
                         "DRV-TARGET-TOO-SMALL: the source of disk %s has grown to %" G_GUINT64_FORMAT
                         " bytes, volume %s has %" G_GUINT64_FORMAT "; migrate it under a new job",
                         disk->disk_id, found->capacity_bytes, disk->volume_id, disk->target_size_bytes);
    return fault->error_class == 0;
}

static void forget_carried(DroverDisk *disk)
{
    drover_set_string(&disk->base_change_id, "");
    g_clear_pointer(&disk->carried, g_array_unref);
}

bool drover_step_decide_round(Step *step, DroverDisk *disk, const DroverInspection *found, DroverFault *fault)
{
    const DroverJob *job = step->job;
    if ((job->round > 0 || job->source.present) && !sizes_allow(disk, found, fault))
        return false;
    if (job->round == 0) {
        disk->sync_type = DROVER_SYNC_FULL;
        return true;
    }
    bool grown = found->capacity_bytes > disk->capacity_bytes;
    if (job->sync_type != DROVER_SYNC_DEEP_VERIFY && !grown && found->areas != NULL) {
        g_autoptr(GArray) areas = drover_disk_areas_with_carried(disk, found->areas);
        disk->sync_type = DROVER_SYNC_INCREMENTAL;
        plan_areas(step, disk, areas);
        forget_carried(disk);
        return true;
    }
    if (job->digest == DROVER_DIGEST_NONE) {
        drover_fault_set(fault, DROVER_ERROR_PERMANENT, "DRV-SYNC-UNSUPPORTED",
                         "DRV-SYNC-UNSUPPORTED: what changed on disk %s is not known, and a job without digests "
                         "cannot compare; submit a new one with a digest",
                         disk->disk_id);
        return false;
    }
    disk->sync_type = DROVER_SYNC_DEEP_VERIFY;
    forget_carried(disk);
    if (grown)
        drover_outputs_audit(step->outputs, "info", "disk.grown", disk->disk_id,
                             "Grown from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT " bytes; comparing all of it",
                             disk->capacity_bytes, found->capacity_bytes);
    else if (job->sync_type != DROVER_SYNC_DEEP_VERIFY)
        drover_outputs_audit(step->outputs, "warning", "disk.compare", disk->disk_id,
                             "Comparing digests, because it is not known what changed: %s",
                             found->areas_unknown_because != NULL ? found->areas_unknown_because : "");
    return true;
}
