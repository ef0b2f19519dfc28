/* SPDX-License-Identifier: Apache-2.0 */
#include "core/dispatch/queue.h"

#include "core/dispatch/admission.h"
#include "core/job/source_vm.h"
#include "core/task/task.h"

/* A worker and what is left of its slots. */
typedef struct {
    const DroverProcess *process;
    int64_t free_copy;
    int64_t free_source;
} Worker;

/* A job's share so far. */
typedef struct {
    DroverJob *job;
    uint32_t running;
    bool exhausted; /* nothing more of it fits now */
} Share;

static int64_t *free_slots(Worker *worker, const DroverTask *task)
{
    return drover_task_moves_data(task) ? &worker->free_copy : &worker->free_source;
}

static const GArray *partitions(const DroverProcess *process, const DroverTask *task)
{
    return drover_task_moves_data(task) ? process->copy_partitions : process->source_partitions;
}

bool drover_queue_is_eligible(const DroverJob *job, const DroverDisk *disk, const DroverTask *task,
                              const DroverAt *at)
{
    if (task->status != DROVER_TASK_READY || task->not_before_at_ms > at->now_ms)
        return false;
    if (task->kind == DROVER_TASK_SOURCE_VM)
        return drover_phase_is_undoing(job->phase) || !job->paused;
    if (job->paused || (drover_task_moves_data(task) && *job->moving_to != '\0'))
        return false;
    if (!drover_task_moves_data(task))
        return job->source.present ? job->phase == DROVER_PHASE_PREPARE && *drover_source_snapshot(job) != '\0'
                                   : job->phase == DROVER_PHASE_PREFLIGHT;
    return job->phase == DROVER_PHASE_COPYING && disk->export_open && disk->token != NULL &&
           disk->token_generation == disk->generation;
}

static void take_slot(GArray *workers, const DroverTask *task)
{
    for (guint i = 0; i < workers->len; i++) {
        Worker *worker = &g_array_index(workers, Worker, i);
        if (g_str_equal(worker->process->process_id, task->owner_process))
            --*free_slots(worker, task);
    }
}

static bool is_admitted(const DroverAdmission *admission, const DroverJob *job, const DroverDisk *disk,
                        DroverTaskKind kind)
{
    if (kind != DROVER_TASK_COPY && kind != DROVER_TASK_REPAIR)
        return true;
    g_autofree char *why = drover_admission_refuse(admission, job, disk);
    return why == NULL;
}

static DroverTask *next_task(DroverJob *job, DroverTaskKind kind, const DroverAdmission *admission, const DroverAt *at,
                             DroverDisk **disk)
{
    for (guint d = 0; d < job->disks->len; d++) {
        *disk = job->disks->pdata[d];
        if (!is_admitted(admission, job, *disk, kind))
            continue;
        for (guint t = 0; t < (*disk)->tasks->len; t++) {
            DroverTask *task = (*disk)->tasks->pdata[t];
            if (task->kind == kind && drover_queue_is_eligible(job, *disk, task, at))
                return task;
        }
    }
    return NULL;
}

/* Repairs first: they are what a nearly finished disk waits for. */
static DroverTask *next_of_job(DroverJob *job, const DroverAdmission *admission, const DroverAt *at, DroverDisk **disk)
{
    static const DroverTaskKind order[] = {DROVER_TASK_SOURCE_VM, DROVER_TASK_INSPECT, DROVER_TASK_REPAIR, DROVER_TASK_COPY};
    for (size_t i = 0; i < G_N_ELEMENTS(order); i++) {
        DroverTask *task = next_task(job, order[i], admission, at, disk);
        if (task != NULL)
            return task;
    }
    return NULL;
}

static Worker *choose_worker(GArray *workers, const char *site, const DroverTask *task)
{
    Worker *best = NULL;
    for (guint i = 0; i < workers->len; i++) {
        Worker *worker = &g_array_index(workers, Worker, i);
        if (*free_slots(worker, task) <= 0 || g_strcmp0(worker->process->site, site) != 0 ||
            partitions(worker->process, task)->len == 0)
            continue;
        if (best == NULL || *free_slots(worker, task) > *free_slots(best, task))
            best = worker;
    }
    return best;
}

/* Spread by attempt and offset: no state needed, and a retry tries another partition. */
static int32_t choose_partition(const DroverProcess *process, const DroverTask *task)
{
    const GArray *owned = partitions(process, task);
    guint spread = g_str_hash(task->task_id) + task->attempt;
    return g_array_index(owned, int32_t, spread % owned->len);
}

static bool is_cutover(const DroverJob *job)
{
    return job->failover_requested && job->round > 0;
}

static bool goes_before(const Share *a, const Share *b)
{
    /* Somebody's downtime runs: before everything else, whatever it has already. */
    if (is_cutover(a->job) != is_cutover(b->job))
        return is_cutover(a->job);
    if ((a->running == 0) != (b->running == 0))
        return a->running == 0;
    if (a->job->priority != b->job->priority)
        return a->job->priority > b->job->priority;
    if (a->running != b->running)
        return a->running < b->running;
    if (a->job->created_at_ms != b->job->created_at_ms)
        return a->job->created_at_ms < b->job->created_at_ms;
    return g_strcmp0(a->job->job_id, b->job->job_id) < 0;
}

static Share *next_share(GArray *shares)
{
    Share *best = NULL;
    for (guint i = 0; i < shares->len; i++) {
        Share *share = &g_array_index(shares, Share, i);
        if (!share->exhausted && (best == NULL || goes_before(share, best)))
            best = share;
    }
    return best;
}

static bool assign_one(DroverAdmission *admission, Share *share, GArray *workers, const DroverAt *at,
                       GArray *assignments)
{
    DroverJob *job = share->job;
    if (job->bandwidth_limit > 0 && share->running >= DROVER_LIMITED_TASKS_MAX)
        return false;
    DroverDisk *disk = NULL;
    DroverTask *task = next_of_job(job, admission, at, &disk);
    Worker *worker = task != NULL ? choose_worker(workers, job->site, task) : NULL;
    if (worker == NULL)
        return false;
    task->generation = disk->generation;
    drover_task_assign(task, worker->process->process_id, choose_partition(worker->process, task), at);
    --*free_slots(worker, task);
    share->running++;
    if (drover_task_moves_data(task))
        drover_admission_count(admission, job, disk);
    job->control_dirty = true;
    DroverAssignment assignment = {job, disk, task};
    g_array_append_val(assignments, assignment);
    return true;
}

static GArray *collect_shares(GPtrArray *jobs, GArray *workers, const DroverAt *at, uint64_t *ready,
                              uint64_t *running)
{
    GArray *shares = g_array_new(false, false, sizeof(Share));
    *ready = *running = 0;
    for (guint j = 0; j < jobs->len; j++) {
        Share share = {.job = jobs->pdata[j]};
        uint64_t eligible = 0;
        for (guint d = 0; d < share.job->disks->len; d++) {
            const DroverDisk *disk = share.job->disks->pdata[d];
            for (guint t = 0; t < disk->tasks->len; t++) {
                const DroverTask *task = disk->tasks->pdata[t];
                eligible += drover_queue_is_eligible(share.job, disk, task, at);
                if (drover_task_is_live(task)) {
                    take_slot(workers, task);
                    share.running++;
                }
            }
        }
        *ready += eligible;
        *running += share.running;
        if (eligible > 0)
            g_array_append_val(shares, share);
    }
    return shares;
}

GArray *drover_queue_assign(GPtrArray *jobs, const DroverFleet *fleet, const DroverLimits *limits, const DroverAt *at,
                            uint64_t *ready, uint64_t *running)
{
    g_autoptr(GPtrArray) processes = drover_fleet_ready(fleet, DROVER_ROLE_WORKER, NULL, at);
    g_autoptr(GArray) workers = g_array_new(false, false, sizeof(Worker));
    for (guint i = 0; i < processes->len; i++) {
        const DroverProcess *process = processes->pdata[i];
        Worker worker = {process, process->copy_slots, process->source_slots};
        g_array_append_val(workers, worker);
    }
    g_autoptr(DroverAdmission) admission = drover_admission_of(jobs, limits);
    g_autoptr(GArray) shares = collect_shares(jobs, workers, at, ready, running);
    GArray *assignments = g_array_new(false, false, sizeof(DroverAssignment));
    for (Share *share; (share = next_share(shares)) != NULL;) {
        if (assign_one(admission, share, workers, at, assignments)) {
            --*ready;
            ++*running;
        } else {
            share->exhausted = true;
        }
    }
    return assignments;
}

uint32_t drover_queue_reserved_slots(GPtrArray *jobs, const char *agent)
{
    uint32_t reserved = 0;
    for (guint j = 0; j < jobs->len; j++) {
        const DroverJob *job = jobs->pdata[j];
        if (*job->moving_to != '\0')
            reserved += g_str_equal(job->moving_to, agent) ? job->disks->len : 0;
        /* A later round may have begun, or be due, with the volumes at no appliance. */
        if (job->phase > DROVER_PHASE_REPLICATING || g_strcmp0(job->agent, agent) != 0)
            continue;
        for (guint d = 0; d < job->disks->len; d++)
            reserved += *((const DroverDisk *)job->disks->pdata[d])->device_path == '\0';
    }
    return reserved;
}

int64_t drover_queue_slots_left(const DroverProcess *agent, GPtrArray *jobs)
{
    return (int64_t)agent->free_device_slots - drover_queue_reserved_slots(jobs, agent->site);
}

const char *drover_queue_choose_agent(const DroverJob *job, GPtrArray *jobs, const char *const *agents,
                                      const DroverFleet *fleet, const DroverAt *at, char **why)
{
    const char *best = NULL;
    int64_t best_left = 0;
    bool alive = false, in_service = false;
    const char *drained = NULL;
    for (size_t i = 0; agents[i] != NULL; i++) {
        if (*job->wanted_agent != '\0' && !g_str_equal(job->wanted_agent, agents[i]))
            continue;
        const DroverProcess *process = drover_fleet_agent(fleet, agents[i], at);
        if (process == NULL)
            continue;
        alive = true;
        if (process->appliance_draining) {
            drained = agents[i];
            continue;
        }
        in_service = true;
        int64_t left = drover_queue_slots_left(process, jobs);
        if (left >= job->disks->len && (best == NULL || left > best_left)) {
            best = agents[i];
            best_left = left;
        }
    }
    if (best != NULL)
        return best;
    const char *who = *job->wanted_agent != '\0' ? job->wanted_agent : "any";
    if (drained != NULL && !in_service) {
        *why = g_strdup_printf("volume agent %s takes no new VM: its appliance is being drained", drained);
        return NULL;
    }
    *why = alive
               ? g_strdup_printf("waiting for %u free device slots at volume agent %s", job->disks->len, who)
               : g_strdup_printf("waiting for volume agent %s to come alive", who);
    return NULL;
}
