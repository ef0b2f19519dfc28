/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a job does with its source VM: looks at it, freezes it by a snapshot for each round, switches it off before the
 * last one, and leaves it as it was found. One thing at a time, each a task for a worker of the site.
 *
 * The order of a round matters (a change id that is recorded too late, or a snapshot that is deleted too early, loses
 * changes): the change ids of the round before are on record, then its snapshot is removed, then the next is taken.
 */
#include "core/job/internal.h"

#include "core/task/task.h"
#include "lib/base/ids.h"

/* A round has hundreds of them. */
static void forget_looks(DroverDisk *disk)
{
    for (guint i = disk->tasks->len; i-- > 0;) {
        const DroverTask *task = disk->tasks->pdata[i];
        if (task->kind != DROVER_TASK_SOURCE_VM || task->action != DROVER_SOURCE_LOOK || !drover_task_is_ended(task))
            continue;
        g_ptr_array_add(disk->retired, g_strdup(task->task_id));
        g_ptr_array_remove_index(disk->tasks, i);
        disk->dirty = true;
    }
}

static void order(Step *step, DroverSourceAction action)
{
    DroverJob *job = step->job;
    if (drover_source_task(job) != NULL)
        return;
    forget_looks(job->disks->pdata[0]);
    g_autofree char *counter = g_strdup_printf("%u", ++job->operation_counter);
    g_autofree char *task_id =
        drover_task_id(job->job_id, NULL, job->round, drover_source_action_name(action), counter);
    DroverTask *task = drover_disk_add_task(job->disks->pdata[0], task_id, DROVER_TASK_SOURCE_VM);
    task->action = action;
    task->round = job->round;
    task->updated_at_ms = step->at->now_ms;
    job->dirty = true;
}

bool drover_step_source_checked(Step *step)
{
    const DroverJob *job = step->job;
    if (!job->source.present || job->round > 0)
        return true;
    for (guint i = 0; i < job->disks->len; i++) {
        if (((const DroverDisk *)job->disks->pdata[i])->capacity_bytes > 0)
            continue;
        order(step, DROVER_SOURCE_PREFLIGHT);
        return false;
    }
    return true;
}

/* All was tried to remove it; another round or "drover cleanup" tries again. */
static bool given_up(const Step *step, const DroverLedgerEntry *entry)
{
    return entry->undo_failures >= step->limits->max_failures;
}

bool drover_step_source_released(Step *step)
{
    if (!step->job->source.present)
        return true;
    const DroverLedgerEntry *entry = drover_ledger_find(step->job, DROVER_LEDGER_SNAPSHOT, "");
    if (entry != NULL && !given_up(step, entry)) {
        order(step, DROVER_SOURCE_REMOVE_SNAPSHOT);
        return false;
    }
    return drover_source_task(step->job) == NULL;
}

/* The snapshot of an earlier round stands in the way, and could not be removed. */
static void fail_stuck(Step *step, const DroverLedgerEntry *entry)
{
    DroverFault fault = {0};
    drover_fault_set(&fault, DROVER_ERROR_PERMANENT, "DRV-SOURCE-SNAPSHOT-STUCK",
                     "DRV-SOURCE-SNAPSHOT-STUCK: snapshot %s of VM %s could not be removed, and no other is taken on top of "
                     "it; look at the VM's events in vCenter, remove it there, then begin another round",
                     entry->operation_id, step->job->source.vm_moref);
    drover_step_fail(step, &fault);
    drover_fault_clear(&fault);
}

/* Before a snapshot is taken: round 0 had its preflight, and one of a VM that is off does not grow. */
static bool has_room(Step *step)
{
    const DroverJob *job = step->job;
    const DroverSourceVm *source = &job->source;
    if (job->round == 0 || job->final_round)
        return true;
    bool looked = source->looked_at_ms >= job->round_started_at_ms;
    if (looked && *source->short_of_room == '\0')
        return true;
    if (!looked || step->at->now_ms - source->looked_at_ms >= step->limits->source_look_ms)
        order(step, DROVER_SOURCE_LOOK);
    return false;
}

void drover_step_source_look(Step *step)
{
    const DroverJob *job = step->job;
    const DroverSourceVm *source = &job->source;
    int64_t since_ms = MAX(source->looked_at_ms, source->snapshot_at_ms);
    if (source->present && source->snapshot_at_ms > 0 && !job->final_round && !job->paused &&
        step->at->now_ms - since_ms >= step->limits->source_look_ms)
        order(step, DROVER_SOURCE_LOOK);
}

bool drover_step_source_frozen(Step *step)
{
    DroverJob *job = step->job;
    if (!job->source.present || *drover_source_snapshot(job) != '\0')
        return true;
    if (drover_source_task(job) != NULL)
        return false;
    const DroverLedgerEntry *entry = drover_ledger_find(job, DROVER_LEDGER_SNAPSHOT, "");
    g_autofree char *name = drover_source_snapshot_name(job);
    if (entry != NULL && !g_str_equal(entry->operation_id, name)) {
        if (given_up(step, entry))
            fail_stuck(step, entry);
        else
            order(step, DROVER_SOURCE_REMOVE_SNAPSHOT);
    } else if (job->final_round && !drover_source_is_off(job)) {
        drover_ledger_intend(job, DROVER_LEDGER_SOURCE_POWER, "", name, step->at->now_ms);
        order(step, DROVER_SOURCE_POWER_OFF);
    } else if (has_room(step)) {
        drover_ledger_intend(job, DROVER_LEDGER_SNAPSHOT, "", name, step->at->now_ms);
        order(step, DROVER_SOURCE_SNAPSHOT);
    }
    return false;
}

/* ---- results */

static void note_place(DroverJob *job, const DroverSourceReport *report)
{
    job->dirty = true;
    if (*report->host != '\0')
        drover_set_string(&job->source.host, report->host);
    if (*report->firmware != '\0') {
        drover_set_string(&job->source.firmware, report->firmware);
        drover_set_string(&job->source.guest_id, report->guest_id);
        job->source.secure_boot = report->secure_boot;
    }
    for (guint i = 0; i < job->disks->len; i++) {
        DroverDisk *disk = job->disks->pdata[i];
        for (size_t k = 0; k < report->n_disks; k++)
            if (report->disks[k].key == disk->source_key && *report->disks[k].datastore != '\0')
                disk->dirty |= drover_set_string(&disk->datastore, report->disks[k].datastore);
    }
}

static void note_power(DroverJob *job, const DroverSourceReport *report)
{
    if (*report->power_state != '\0' && drover_ledger_find(job, DROVER_LEDGER_SOURCE_POWER, "") == NULL)
        drover_set_string(&job->source.power_state, report->power_state);
}

static bool is_known_key(const GArray *keys, int32_t key)
{
    for (guint i = 0; i < keys->len; i++)
        if (g_array_index(keys, int32_t, i) == key)
            return true;
    return false;
}

/* Disks that were left out on purpose stay left out; one that appears later would be missing at the target. */
static bool no_disk_was_added(Step *step, const DroverSourceReport *report)
{
    DroverSourceVm *source = &step->job->source;
    if (source->other_disks == NULL) {
        source->other_disks = g_array_new(false, false, sizeof(int32_t));
        g_array_append_vals(source->other_disks, report->other_keys, (guint)report->n_other_keys);
        return true;
    }
    for (size_t i = 0; i < report->n_other_keys; i++) {
        if (is_known_key(source->other_disks, report->other_keys[i]))
            continue;
        DroverFault fault = {0};
        drover_fault_set(&fault, DROVER_ERROR_PERMANENT, "DRV-SOURCE-DISK-ADDED",
                         "DRV-SOURCE-DISK-ADDED: VM %s has a disk (key %d) that it did not have when job %s began; remove it "
                         "from the VM and begin another round, or submit a new job that names it",
                         source->vm_moref, report->other_keys[i], step->job->job_id);
        drover_step_fail(step, &fault);
        drover_fault_clear(&fault);
        return false;
    }
    return true;
}

static void tell_findings(Step *step, const DroverSourceReport *report)
{
    for (size_t i = 0; i < report->n_findings; i++) {
        const DroverSourceFinding *finding = &report->findings[i];
        const char *level = g_str_equal(finding->severity, "error")     ? "error"
                            : g_str_equal(finding->severity, "warning") ? "warning"
                                                                        : "info";
        drover_outputs_audit(step->outputs, level, "source.finding", NULL, "%s", finding->message);
    }
}

static const DroverSourceFinding *first_error(const DroverSourceReport *report)
{
    for (size_t i = 0; i < report->n_findings; i++)
        if (g_str_equal(report->findings[i].severity, "error"))
            return &report->findings[i];
    return NULL;
}

static bool take_sizes(Step *step, const DroverSourceReport *report)
{
    DroverJob *job = step->job;
    for (guint i = 0; i < job->disks->len; i++) {
        DroverDisk *disk = job->disks->pdata[i];
        for (size_t k = 0; k < report->n_disks; k++)
            if (report->disks[k].key == disk->source_key)
                disk->capacity_bytes = report->disks[k].capacity_bytes;
        disk->dirty = true;
        if (disk->capacity_bytes > 0)
            continue;
        DroverFault fault = {0};
        drover_fault_set(&fault, DROVER_ERROR_PERMANENT, "DRV-SOURCE-MISSING",
                         "DRV-SOURCE-MISSING: VM %s has no disk with key %d (disk %s of the job); \"drover discover\" lists "
                         "its disks",
                         job->source.vm_moref, disk->source_key, disk->disk_id);
        drover_step_fail(step, &fault);
        drover_fault_clear(&fault);
        return false;
    }
    return true;
}

static void checked(Step *step, const DroverSourceReport *report)
{
    if (step->job->phase != DROVER_PHASE_PREFLIGHT)
        return;
    note_place(step->job, report);
    note_power(step->job, report);
    tell_findings(step, report);
    const DroverSourceFinding *error = first_error(report);
    if (error != NULL) {
        DroverFault fault = {0};
        drover_fault_set(&fault, DROVER_ERROR_PERMANENT, error->code, "%s", error->message);
        drover_step_fail(step, &fault);
        drover_fault_clear(&fault);
        return;
    }
    if (no_disk_was_added(step, report))
        take_sizes(step, report);
}

static void frozen(Step *step, const DroverSourceReport *report)
{
    DroverJob *job = step->job;
    note_place(job, report);
    note_power(job, report);
    drover_ledger_made(job, DROVER_LEDGER_SNAPSHOT, "", report->snapshot_moref);
    job->source.snapshot_at_ms = report->snapshot_at_ms;
    job->source.quiesced = report->quiesced;
    job->control_dirty = true;
    drover_outputs_audit(step->outputs, "info", "source.snapshot", NULL, "Snapshot %s of VM %s is taken%s", report->snapshot_moref,
                         job->source.vm_moref, report->quiesced ? ", quiesced" : "");
    no_disk_was_added(step, report);
}

static void looked(Step *step, const DroverSourceReport *report)
{
    DroverSourceVm *source = &step->job->source;
    const char *found = "";
    note_place(step->job, report);
    source->looked_at_ms = step->at->now_ms;
    for (size_t i = 0; i < report->n_findings && *found == '\0'; i++)
        if (g_str_equal(report->findings[i].severity, "error") && g_str_equal(report->findings[i].code, "DRV-SOURCE-SPACE"))
            found = report->findings[i].message;
    bool was = *source->short_of_room != '\0';
    drover_set_string(&source->short_of_room, found);
    if (*found != '\0' && !was)
        drover_outputs_audit(step->outputs, "warning", "source.room", NULL, "%s", found);
    else if (*found == '\0' && was)
        drover_outputs_audit(step->outputs, "info", "source.room", NULL, "The datastores of VM %s have room again", source->vm_moref);
}

void drover_step_source_done(Step *step, int action, const DroverSourceReport *report)
{
    DroverJob *job = step->job;
    job->dirty = true;
    switch (action) {
    case DROVER_SOURCE_PREFLIGHT:
        checked(step, report);
        break;
    case DROVER_SOURCE_SNAPSHOT:
        frozen(step, report);
        break;
    case DROVER_SOURCE_REMOVE_SNAPSHOT:
        drover_ledger_gone(job, DROVER_LEDGER_SNAPSHOT, "");
        job->source.snapshot_at_ms = 0;
        drover_outputs_audit(step->outputs, "info", "source.released", NULL, "The snapshot of VM %s is removed",
                             job->source.vm_moref);
        break;
    case DROVER_SOURCE_POWER_OFF:
        drover_ledger_made(job, DROVER_LEDGER_SOURCE_POWER, "", job->source.vm_moref);
        drover_outputs_audit(step->outputs, "info", "source.off", NULL, "VM %s is off and guarded", job->source.vm_moref);
        break;
    case DROVER_SOURCE_POWER_ON:
        drover_ledger_gone(job, DROVER_LEDGER_SOURCE_POWER, "");
        drover_outputs_audit(step->outputs, "info", "source.on", NULL, "VM %s is as it was before the failover", job->source.vm_moref);
        break;
    case DROVER_SOURCE_LOOK:
        looked(step, report);
        break;
    default:
        break;
    }
}

void drover_step_source_failed(Step *step, int action, const DroverFault *fault)
{
    DroverJob *job = step->job;
    bool undoing = drover_phase_is_undoing(job->phase);
    DroverLedgerEntry *entry = drover_ledger_find(
        job, action == DROVER_SOURCE_POWER_ON ? DROVER_LEDGER_SOURCE_POWER : DROVER_LEDGER_SNAPSHOT, "");
    if (drover_source_action_undoes(action) && entry != NULL) {
        entry->undo_failures = step->limits->max_failures;
        drover_outputs_audit(step->outputs, "error", "source.left-over", NULL, "DRV-LEFT-OVER: %s of VM %s was given up: %s",
                             drover_source_action_name(action), job->source.vm_moref, fault->message);
    } else if (action == DROVER_SOURCE_LOOK) { /* what the round does with the VM fails by itself, if it must */
        job->source.looked_at_ms = step->at->now_ms;
        drover_set_string(&job->source.short_of_room, "");
        drover_outputs_audit(step->outputs, "warning", "source.not-seen", NULL, "VM %s could not be looked at: %s",
                             job->source.vm_moref, fault->message);
    } else if (!undoing && action == DROVER_SOURCE_POWER_OFF && g_strcmp0(fault->code, "DRV-SOURCE-POWER-WAIT") == 0) {
        /* The guest was asked and has not gone off: somebody decides. */
        drover_ledger_gone(job, DROVER_LEDGER_SOURCE_POWER, "");
        drover_step_call_off(step, fault);
    } else if (!undoing) {
        drover_step_fail(step, fault);
    }
    job->dirty = true;
}

/* ---- undoing */

bool drover_step_source_quiet(Step *step)
{
    DroverTask *task = drover_source_task(step->job);
    if (task == NULL || drover_source_action_undoes(task->action))
        return true;
    /* An attempt that was not claimed changes nothing: its claim would have to be confirmed. A claimed one is asked to
     * stop, and says when it has; or its lease runs out. */
    if (task->status == DROVER_TASK_CLAIMED && drover_source_action_changes(task->action))
        return false;
    drover_task_cancel(task, step->at);
    step->job->control_dirty = true;
    return true;
}

void drover_step_source_undo(Step *step, const DroverLedgerEntry *entry)
{
    order(step, entry->kind == DROVER_LEDGER_SNAPSHOT ? DROVER_SOURCE_REMOVE_SNAPSHOT : DROVER_SOURCE_POWER_ON);
}
