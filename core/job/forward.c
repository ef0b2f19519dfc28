/* SPDX-License-Identifier: Apache-2.0 */
/* The way forward: what each phase waits for and does next. */
#include "core/job/internal.h"

#include "core/task/cells.h"
#include "core/task/planner.h"
#include "core/job/receipt.h"
#include "core/task/verify.h"
#include "lib/base/ids.h"

#define GIB (UINT64_C(1) << 30)

static void set_sync_status(DroverDisk *disk, DroverSyncStatus status)
{
    if (disk->sync_status != status) {
        disk->sync_status = status;
        disk->dirty = true;
    }
}

static void set_setup_percent(DroverJob *job)
{
    uint32_t done = 0, steps = 4 * job->disks->len + (job->failover_requested ? 1 : 0);
    for (guint i = 0; i < job->disks->len; i++) {
        const DroverDisk *disk = job->disks->pdata[i];
        done += drover_job_is_inspected(job, disk) + (*disk->volume_id != '\0') + (*disk->device_path != '\0') +
                disk->export_open;
    }
    if (job->failover_requested && *job->vm_id != '\0')
        done++;
    uint32_t percent = steps > 0 ? 100 * done / steps : 100;
    if (percent != job->setup_percent) {
        job->setup_percent = percent;
        job->dirty = true;
    }
}

static void submitted(Step *step)
{
    DroverJob *job = step->job;
    job->started_at_ms = job->round_started_at_ms = step->at->now_ms;
    for (guint i = 0; i < job->disks->len; i++) {
        DroverDisk *disk = job->disks->pdata[i];
        g_autofree char *task_id = drover_task_id(job->job_id, disk->disk_id, job->round, "inspect", "0");
        if (drover_disk_task(disk, task_id) == NULL) {
            DroverTask *task = drover_disk_add_task(disk, task_id, DROVER_TASK_INSPECT);
            task->round = job->round;
            task->updated_at_ms = step->at->now_ms;
        }
        set_sync_status(disk, DROVER_SYNC_INSPECTING);
    }
    drover_step_enter(step, DROVER_PHASE_PREFLIGHT);
}

/* Before anything is made: what was asked for must be able to hold the source. */
static bool sizes_fit(Step *step)
{
    for (guint i = 0; i < step->job->disks->len; i++) {
        const DroverDisk *disk = step->job->disks->pdata[i];
        if (disk->wanted_size_bytes == 0 || disk->wanted_size_bytes >= disk->capacity_bytes)
            continue;
        DroverFault fault = {0};
        drover_fault_set(&fault, DROVER_ERROR_PERMANENT, "DRV-TARGET-TOO-SMALL",
                         "DRV-TARGET-TOO-SMALL: the target of disk %s is to have %" G_GUINT64_FORMAT
                         " bytes, its source has %" G_GUINT64_FORMAT
                         "; ask for that much or leave the size out",
                         disk->disk_id, disk->wanted_size_bytes, disk->capacity_bytes);
        drover_step_fail(step, &fault);
        drover_fault_clear(&fault);
        return false;
    }
    return true;
}

static void preflight(Step *step)
{
    DroverJob *job = step->job;
    /* A VM is frozen as late as possible, when its targets are ready: then its disks are inspected. */
    for (guint i = 0; i < job->disks->len && !job->source.present; i++)
        if (!drover_job_is_inspected(job, job->disks->pdata[i]))
            return;
    if (!drover_step_source_checked(step))
        return;
    if (job->round == 0 && !sizes_fit(step))
        return;
    for (guint i = 0; i < job->disks->len; i++) {
        DroverDisk *disk = job->disks->pdata[i];
        uint64_t wanted = MAX(disk->wanted_size_bytes, disk->capacity_bytes);
        if (job->round == 0)
            disk->target_size_bytes = (wanted + GIB - 1) / GIB * GIB;
        disk->dirty = true;
        set_sync_status(disk, DROVER_SYNC_PREPARING);
    }
    drover_step_enter(step, DROVER_PHASE_PREPARE);
}

/* The next operation that gives DISK a device at the appliance; true when it has one. */
static bool place_disk(Step *step, DroverDisk *disk)
{
    if (*disk->device_path != '\0')
        return true;
    if (drover_step_may_operate(step, disk))
        drover_step_operation(step, *disk->volume_id == '\0' ? DROVER_OP_CREATE_VOLUME : DROVER_OP_ATTACH_VOLUME, disk,
                              false);
    return false;
}

static bool open_disk(Step *step, DroverDisk *disk)
{
    if (!disk->export_open && drover_step_may_operate(step, disk))
        drover_step_operation(step, DROVER_OP_OPEN_EXPORT, disk, false);
    return disk->export_open;
}

static bool all_inspected(const DroverJob *job)
{
    for (guint i = 0; i < job->disks->len; i++)
        if (!drover_job_is_inspected(job, job->disks->pdata[i]))
            return false;
    return true;
}

/* True when there is a target VM. */
static bool prepare_vm(Step *step)
{
    if (*step->job->vm_id != '\0')
        return true;
    if (drover_step_may_operate(step, NULL))
        drover_step_operation(step, DROVER_OP_DEPLOY_VM, NULL, false);
    return false;
}

/* The tasks were made when the areas became known. */
static void start_areas(Step *step, DroverDisk *disk)
{
    guint n = 0;
    disk->cells = drover_cells_new(disk->capacity_bytes);
    disk->verify = drover_verify_new();
    for (guint i = 0; i < disk->tasks->len; i++) {
        DroverTask *task = disk->tasks->pdata[i];
        if (task->kind != DROVER_TASK_COPY)
            continue;
        task->generation = disk->generation;
        task->dirty = true;
        drover_cells_settle_untouched(disk->cells, task);
        n++;
    }
    disk->dirty = true;
    set_sync_status(disk, DROVER_SYNC_COPYING);
    drover_outputs_audit(step->outputs, "info", "disk.planned", disk->disk_id,
                         "Round %u: %u range tasks for %" G_GUINT64_FORMAT " changed bytes", disk->round, n,
                         disk->allocated_bytes);
}

static void plan_disk(Step *step, DroverDisk *disk, uint64_t task_bytes)
{
    const DroverJob *job = step->job;
    if (disk->sync_type == DROVER_SYNC_INCREMENTAL) {
        start_areas(step, disk);
        return;
    }
    bool compares = disk->sync_type == DROVER_SYNC_DEEP_VERIFY;
    DroverShape shape = {
        .capacity_bytes = disk->capacity_bytes,
        .allocated_bytes = disk->allocated_bytes,
        .bucket_bytes = disk->bucket_bytes,
        .buckets = (const uint64_t *)(const void *)disk->buckets->data,
        .n_buckets = disk->buckets->len,
    };
    g_autoptr(GArray) plan = job->range_bytes > 0 ? drover_plan_by_length(&shape, job->range_bytes)
                                                  : drover_plan_by_data(&shape, task_bytes);
    for (guint i = 0; i < plan->len; i++) {
        const DroverPlannedRange *planned = &g_array_index(plan, DroverPlannedRange, i);
        g_autofree char *rest = g_strdup_printf("%" G_GUINT64_FORMAT, planned->range.offset);
        g_autofree char *task_id = drover_task_id(job->job_id, disk->disk_id, disk->round, "copy", rest);
        DroverTask *task = drover_disk_add_task(disk, task_id, DROVER_TASK_COPY);
        task->range = planned->range;
        task->planned_bytes = compares ? 0 : planned->planned_bytes;
        task->round = disk->round;
        task->generation = disk->generation;
        task->updated_at_ms = step->at->now_ms;
    }
    if (compares)
        disk->allocated_bytes = 0; /* what must move is what will be found to differ */
    disk->range_bytes = job->range_bytes > 0 ? job->range_bytes : task_bytes;
    disk->cells = drover_cells_new(disk->capacity_bytes);
    disk->verify = drover_verify_new();
    disk->dirty = true;
    set_sync_status(disk, DROVER_SYNC_COPYING);
    drover_outputs_audit(step->outputs, "info", "disk.planned", disk->disk_id, "Round %u: %u range tasks",
                         disk->round, plan->len);
}

uint64_t drover_step_task_bytes(const Step *step, uint64_t allocated_bytes)
{
    /* Where tasks of one disk run one after another, more of them would only open more NFC sessions. */
    bool one_by_one = step->job->source.present && step->limits->transfers_per_vm_disk == 1;
    return one_by_one ? DROVER_RANGE_MAX : drover_plan_task_bytes(allocated_bytes, step->at->copy_slots);
}

/*
 * Before the first thing is made, and before the VM is when that was asked for later, the agent says whether the job fits
 * there: sizes, offerings, quota, names, placement, firmware.
 */
static bool fits_target(Step *step)
{
    const DroverJob *job = step->job;
    bool first = job->round == 0 && job->ledger->len == 0;
    bool vm = job->failover_requested && drover_ledger_find(job, DROVER_LEDGER_VM, "") == NULL &&
              !drover_source_is_off(job);
    if (job->target_checked || (!first && !vm))
        return true;
    if (drover_step_may_operate(step, NULL))
        drover_step_operation(step, DROVER_OP_PREFLIGHT_TARGET, NULL, false);
    return false;
}

static void prepare(Step *step)
{
    DroverJob *job = step->job;
    if (*job->agent == '\0' || !fits_target(step))
        return;
    set_setup_percent(job);
    bool ready = true;
    for (guint i = 0; i < job->disks->len; i++) {
        DroverDisk *disk = job->disks->pdata[i];
        ready &= place_disk(step, disk) && (job->source.present || open_disk(step, disk));
    }
    if (job->failover_requested)
        ready &= prepare_vm(step);
    if (!ready || !drover_step_source_frozen(step) || !all_inspected(job))
        return;
    for (guint i = 0; i < job->disks->len; i++)
        ready &= open_disk(step, job->disks->pdata[i]);
    if (!ready)
        return;
    uint64_t allocated = 0;
    for (guint i = 0; i < job->disks->len; i++) {
        const DroverDisk *disk = job->disks->pdata[i];
        allocated += disk->allocated_bytes;
        job->sync_type = MAX(job->sync_type, disk->sync_type);
    }
    uint64_t task_bytes = drover_step_task_bytes(step, allocated);
    for (guint i = 0; i < job->disks->len; i++)
        plan_disk(step, job->disks->pdata[i], task_bytes);
    job->setup_percent = 100;
    drover_step_enter(step, DROVER_PHASE_COPYING);
}

bool drover_disk_is_copied(const DroverDisk *disk)
{
    for (guint i = 0; i < disk->tasks->len; i++) {
        const DroverTask *task = disk->tasks->pdata[i];
        if (drover_task_moves_data(task) && task->round == disk->round && task->status != DROVER_TASK_DONE)
            return false;
    }
    return true;
}

static bool is_being_verified(const DroverDisk *disk)
{
    for (guint i = 0; i < disk->tasks->len; i++) {
        const DroverTask *task = disk->tasks->pdata[i];
        if (drover_task_moves_data(task) && task->status < DROVER_TASK_COPIED)
            return false;
    }
    return true;
}

static void add_ranges(GArray *ranges, const DroverTask *task)
{
    if (task->areas != NULL)
        g_array_append_vals(ranges, task->areas->data, task->areas->len);
    else
        g_array_append_val(ranges, task->range);
}

void drover_step_round_end(Step *step, DroverDisk *disk)
{
    g_autoptr(GArray) ranges = g_array_new(false, false, sizeof(DroverRange));
    disk->final_counts = (DroverCounts){0};
    for (guint i = 0; i < disk->tasks->len; i++) {
        const DroverTask *task = disk->tasks->pdata[i];
        if (task->kind != DROVER_TASK_COPY || task->round != disk->round)
            continue;
        add_ranges(ranges, task);
        disk->final_counts.data += task->counts.data;
        disk->final_counts.zero_found += task->counts.zero_found;
        disk->final_counts.skipped += task->counts.skipped;
        disk->final_counts.resent += task->counts.resent;
        disk->final_counts.read += task->counts.read;
    }
    g_autofree char *round_digest = drover_round_digest(disk->cells);
    g_autofree char *range_hash =
        drover_range_hash((const DroverRange *)(const void *)ranges->data, ranges->len);
    g_autofree char *receipt = 
        drover_receipt(disk->previous_receipt, round_digest, range_hash, disk->found_change_id);
    drover_set_string(&disk->round_digest, round_digest);
    drover_set_string(&disk->receipt, receipt);
    /* Only what is flushed and read back may be the base of the next round. */
    drover_set_string(&disk->previous_change_id, disk->change_id);
    drover_set_string(&disk->change_id, disk->found_change_id);
    disk->verified_bytes = disk->capacity_bytes;
    set_sync_status(disk, DROVER_SYNC_COMPLETED);
    disk->dirty = true;
    g_clear_pointer(&disk->cells, drover_cells_free);
    g_clear_pointer(&disk->verify, drover_verify_free);
    drover_outputs_audit(step->outputs, "info", "disk.round-done", disk->disk_id,
                         "Round %u is read back and final, receipt %s", disk->round, disk->receipt);
}

static void copying(Step *step)
{
    DroverJob *job = step->job;
    bool all_final = true;
    if (drover_step_rebase(step))
        return;
    drover_step_source_look(step);
    for (guint i = 0; i < job->disks->len; i++) {
        DroverDisk *disk = job->disks->pdata[i];
        if (*disk->receipt != '\0')
            continue;
        all_final = false;
        if (!drover_step_may_operate(step, disk))
            continue;
        if (drover_disk_is_copied(disk)) {
            drover_step_operation(step, DROVER_OP_CLOSE_EXPORT, disk, false);
        } else if (!disk->export_open) {
            if (place_disk(step, disk)) /* it may have moved to another appliance */
                drover_step_operation(step, DROVER_OP_OPEN_EXPORT, disk, false);
        } else {
            set_sync_status(disk, is_being_verified(disk) ? DROVER_SYNC_VERIFYING : DROVER_SYNC_COPYING);
        }
    }
    if (all_final && !job->paused)
        drover_step_rounds_over(step);
}

/* True when no disk is attached to the appliance any more. */
static bool detach_all(Step *step)
{
    bool detached = true;
    for (guint i = 0; i < step->job->disks->len; i++) {
        DroverDisk *disk = step->job->disks->pdata[i];
        if (drover_ledger_find(step->job, DROVER_LEDGER_ATTACHMENT, disk->disk_id) == NULL)
            continue;
        detached = false;
        if (drover_step_may_operate(step, disk))
            drover_step_operation(step, DROVER_OP_DETACH_VOLUME, disk, false);
    }
    return detached;
}

static void parking(Step *step)
{
    if (step->job->failover_requested)
        drover_step_enter(step, drover_source_goes_off(step->job) ? DROVER_PHASE_REPLICATING : DROVER_PHASE_CUTOVER);
    else if (detach_all(step) && drover_step_source_released(step))
        drover_step_enter(step, DROVER_PHASE_COMPLETED);
}

static void set_failover_status(DroverJob *job, const char *status)
{
    if (drover_set_string(&job->failover_status, status))
        job->dirty = true;
}

static void cutover(Step *step)
{
    DroverJob *job = step->job;
    drover_step_source_released(step); /* in the meantime: the downtime does not wait for it */
    if (job->failover_started_at_ms == 0) {
        job->failover_started_at_ms = step->at->now_ms;
        job->failover_kind = DROVER_FAILOVER_LIVE;
        job->dirty = true;
    }
    if (!fits_target(step))
        return;
    bool vm = prepare_vm(step), detached = detach_all(step);
    set_failover_status(job, vm ? "switching_volume" : "creating_vm");
    if (!vm || !detached)
        return;
    /* One at a time: CloudStack does not keep the order of calls for one VM. */
    for (guint i = 0; i < job->disks->len; i++) {
        DroverDisk *disk = job->disks->pdata[i];
        if (*disk->vm_id != '\0')
            continue;
        if (drover_step_may_operate(step, disk))
            drover_step_operation(step, i == 0 ? DROVER_OP_SWAP_ROOT : DROVER_OP_ATTACH_TO_VM, disk, false);
        return;
    }
    set_failover_status(job, "powering_on");
    drover_step_enter(step, DROVER_PHASE_STARTING);
}

static void starting(Step *step)
{
    DroverJob *job = step->job;
    bool released = drover_step_source_released(step); /* meanwhile */
    if (g_str_equal(job->failover_status, "completed")) {
        if (released)
            drover_step_enter(step, DROVER_PHASE_COMPLETED);
    } else if (g_str_equal(job->vm_state, "Running")) {
        set_failover_status(job, "completed");
        job->failover_completed_at_ms = step->at->now_ms;
        drover_ledger_gone(job, DROVER_LEDGER_SOURCE_POWER, ""); /* it stays off for good */
        if (released)
            drover_step_enter(step, DROVER_PHASE_COMPLETED);
    } else if (drover_step_may_operate(step, NULL)) {
        drover_step_operation(step, DROVER_OP_START_VM, NULL, false);
    }
}

void drover_step_forward(Step *step)
{
    if (!drover_step_move(step))
        return;
    switch (step->job->phase) {
    case DROVER_PHASE_SUBMITTED:
        submitted(step);
        break;
    case DROVER_PHASE_PREFLIGHT:
        preflight(step);
        set_setup_percent(step->job);
        break;
    case DROVER_PHASE_PREPARE:
        prepare(step);
        break;
    case DROVER_PHASE_COPYING:
        copying(step);
        break;
    case DROVER_PHASE_REPLICATING:
        drover_step_replicating(step);
        break;
    case DROVER_PHASE_PARKING:
        parking(step);
        break;
    case DROVER_PHASE_CUTOVER:
        cutover(step);
        break;
    case DROVER_PHASE_STARTING:
        starting(step);
        break;
    default:
        break; /* phases of a newer version: left alone */
    }
}
