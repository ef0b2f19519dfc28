/* SPDX-License-Identifier: Apache-2.0 */
#include "core/job/drain.h"

#include "core/job/internal.h"
#include "core/dispatch/queue.h"
#include "core/task/task.h"

static bool has_entry(const DroverJob *job, DroverLedgerKind kind)
{
    for (guint i = 0; i < job->ledger->len; i++)
        if (((const DroverLedgerEntry *)job->ledger->pdata[i])->kind == (int)kind)
            return true;
    return false;
}

static bool is_plugged_in(const DroverJob *job)
{
    return has_entry(job, DROVER_LEDGER_ATTACHMENT) || has_entry(job, DROVER_LEDGER_EXPORT);
}

static bool copies_stand_still(const DroverJob *job)
{
    for (guint d = 0; d < job->disks->len; d++) {
        const DroverDisk *disk = job->disks->pdata[d];
        for (guint t = 0; t < disk->tasks->len; t++)
            if (drover_task_moves_data(disk->tasks->pdata[t]) && drover_task_is_live(disk->tasks->pdata[t]))
                return false;
    }
    return job->operations->len == 0 && (job->paused || *job->stall_reason != '\0');
}

bool drover_drain_may_move(const DroverJob *job)
{
    if (*job->agent == '\0')
        return false;
    if (drover_phase_is_ended(job->phase)) /* parked: only whose it is has to change */
        return job->ledger->len > 0 && job->operations->len == 0 && !is_plugged_in(job);
    switch (job->phase) {
    case DROVER_PHASE_SUBMITTED:
    case DROVER_PHASE_PREFLIGHT:
    case DROVER_PHASE_PREPARE:
    case DROVER_PHASE_REPLICATING:
        return true;
    case DROVER_PHASE_COPYING:
        return copies_stand_still(job);
    default:
        return false;
    }
}

bool drover_drain_is_on(const DroverFleet *fleet)
{
    GHashTableIter iter;
    void *value;
    g_hash_table_iter_init(&iter, fleet->processes);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        if (((const DroverProcess *)value)->appliance_draining)
            return true;
    return false;
}

static bool suits(const DroverJob *job, GPtrArray *jobs, const DroverProcess *home, const DroverProcess *other)
{
    if (other == NULL || other->appliance_draining || g_strcmp0(other->site, job->agent) == 0 ||
        g_strcmp0(other->scope, home->scope) != 0)
        return false;
    bool needs_slots = !drover_phase_is_ended(job->phase);
    return !needs_slots || drover_queue_slots_left(other, jobs) >= job->disks->len;
}

const char *drover_drain_new_home(const DroverJob *job, GPtrArray *jobs, const char *const *agents, const DroverFleet *fleet,
                                  const DroverAt *at)
{
    const DroverProcess *home = drover_fleet_agent_known(fleet, job->agent);
    if (home == NULL || !home->appliance_draining)
        return NULL;
    bool leaving = *job->moving_to != '\0';
    if (leaving ? drover_fleet_agent(fleet, job->moving_to, at) != NULL : !drover_drain_may_move(job))
        return NULL;
    const char *best = NULL;
    int64_t best_left = 0;
    for (size_t i = 0; agents[i] != NULL; i++) {
        const DroverProcess *other = drover_fleet_agent(fleet, agents[i], at);
        if (!suits(job, jobs, home, other))
            continue;
        int64_t left = drover_queue_slots_left(other, jobs);
        if (best == NULL || left > best_left) {
            best = agents[i];
            best_left = left;
        }
    }
    return best;
}

/* ---- the job machine */

/* The next operation that takes DISK off the old appliance; true when it is off. */
static bool take_off(Step *step, DroverDisk *disk)
{
    bool open = drover_ledger_find(step->job, DROVER_LEDGER_EXPORT, disk->disk_id) != NULL;
    bool attached = drover_ledger_find(step->job, DROVER_LEDGER_ATTACHMENT, disk->disk_id) != NULL;
    if ((open || attached) && drover_step_may_operate(step, disk))
        drover_step_operation(step, open ? DROVER_OP_CLOSE_EXPORT : DROVER_OP_DETACH_VOLUME, disk, false);
    return !open && !attached;
}

static void arrive(Step *step)
{
    DroverJob *job = step->job;
    drover_outputs_audit(step->outputs, "info", "job.moved", NULL, "Home appliance is %s now; %s is being emptied",
                         job->moving_to, job->agent);
    drover_set_string(&job->agent, job->moving_to);
    drover_set_string(&job->moving_to, "");
    for (guint i = 0; i < job->ledger->len; i++) {
        DroverLedgerEntry *entry = job->ledger->pdata[i];
        g_free(entry->agent);
        entry->agent = g_strdup(job->agent);
    }
    for (guint i = 0; i < job->disks->len; i++)
        ((DroverDisk *)job->disks->pdata[i])->op_failures = 0;
    job->dirty = true;
    job->control_dirty = true;
}

void drover_step_move_to(Step *step, const char *agent)
{
    DroverJob *job = step->job;
    if (g_str_equal(job->agent, agent) || (*job->moving_to == '\0' && !drover_drain_may_move(job)))
        return;
    drover_set_string(&job->moving_to, agent);
    if (drover_phase_is_ended(job->phase))
        arrive(step);
    else
        drover_outputs_audit(step->outputs, "info", "job.moving", NULL, "Leaving appliance %s for %s", job->agent, agent);
}

bool drover_step_move(Step *step)
{
    DroverJob *job = step->job;
    if (*job->moving_to == '\0')
        return true;
    bool off = true;
    for (guint i = 0; i < job->disks->len; i++)
        off &= take_off(step, job->disks->pdata[i]);
    /* Answers come from the journal of the agent that was asked. */
    if (!off || drover_job_has_operations(job, NULL))
        return false;
    arrive(step);
    return true;
}
