/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/dispatch.h"

#include "core/dispatch/admission.h"
#include "core/job/drain.h"
#include "core/dispatch/grants.h"
#include "core/dispatch/queue.h"
#include "core/task/task.h"
#include "core/task/verify.h"
#include "lib/base/log.h"
#include "scheduler/apply_event.h"
#include "scheduler/codec.h"

#define CHECK_INTERVAL_MS 200
#define EXPIRY_INTERVAL_MS 60000

/* The process that claimed TASK lives again: its earlier life uses nothing any more. */
static bool owner_restarted(const World *world, const DroverTask *task)
{
    const DroverProcess *owner = drover_fleet_get(world->fleet, task->owner_process);
    return task->status == DROVER_TASK_CLAIMED && owner != NULL &&
           g_strcmp0(owner->instance_id, task->owner_instance) != 0;
}

static void check_leases(World *world, DroverJob *job)
{
    DroverGrants *grants = g_hash_table_lookup(world->grants, job->job_id);
    for (guint d = 0; d < job->disks->len; d++) {
        DroverDisk *disk = job->disks->pdata[d];
        for (guint t = 0; t < disk->tasks->len; t++) {
            DroverTask *task = disk->tasks->pdata[t];
            if (!drover_task_is_live(task))
                continue;
            DroverAt at = world_at(world, NULL);
            if (grants != NULL && owner_restarted(world, task)) {
                g_autofree char *holder = g_strdup_printf("%s/%u", task->task_id, task->attempt);
                drover_grants_end(grants, holder);
            }
            apply_verdict(world, job, disk, task,
                          drover_task_check(task, world->fleet, &world->options->limits, &at));
        }
    }
}

/* A takeover may find a job without the reports that came before the crash of a worker: a copied task of
 * which cells are missing for as long as a lease is copied again. */
static void check_copied(World *world, DroverJob *job, DroverDisk *disk)
{
    for (guint t = 0; disk->cells != NULL && t < disk->tasks->len; t++) {
        DroverTask *task = disk->tasks->pdata[t];
        size_t cells = drover_cells_end(&task->range) - drover_cells_begin(&task->range);
        if (!drover_task_moves_data(task) || task->status != DROVER_TASK_COPIED ||
            world->lease_ms - task->lease_since_ms < world->options->limits.lease_ms ||
            drover_cells_count_done(disk->cells, &task->range) == cells)
            continue;
        DroverAt at = world_at(world, NULL);
        drover_task_revoke(task, &at);
        world_audit(
            world, job, disk->disk_id, "warning", "task.incomplete",
            "%s was reported finished, but not all of its cells are checkpointed; copying the others again",
            task->task_id);
    }
}

static const char *agent_silence(World *world, const DroverJob *job, const DroverAt *at)
{
    bool needed = job->operations->len > 0 || job->phase == DROVER_PHASE_COPYING;
    return needed && drover_fleet_agent(world->fleet, job->agent, at) == NULL ? job->agent : NULL;
}

static bool runs_anything(const DroverJob *job)
{
    for (guint d = 0; d < job->disks->len; d++) {
        const DroverDisk *disk = job->disks->pdata[d];
        for (guint t = 0; t < disk->tasks->len; t++)
            if (drover_task_is_live(disk->tasks->pdata[t]))
                return true;
    }
    return false;
}

/* What keeps all copies of a job that runs none; NULL: nothing. */
static char *not_admitted(const DroverAdmission *admission, const DroverJob *job)
{
    char *why = NULL;
    for (guint d = 0; d < job->disks->len; d++) {
        g_free(why);
        why = drover_admission_refuse(admission, job, job->disks->pdata[d]);
        if (why == NULL)
            return NULL;
    }
    return why;
}

static char *growing_snapshot(World *world, const DroverJob *job)
{
    if (*job->source.short_of_room != '\0')
        return g_strdup(job->source.short_of_room);
    int64_t age_ms = world->now_ms - job->source.snapshot_at_ms;
    if (job->source.snapshot_at_ms == 0 || age_ms < (int64_t)job->source.snapshot_max_age_ms)
        return NULL;
    return g_strdup_printf("the snapshot of VM %s is %" G_GINT64_FORMAT " hours old and grows; its datastore may run full",
                           job->source.vm_moref, age_ms / 3600000);
}

static bool waits_for_worker(const DroverJob *job, const DroverAt *at)
{
    for (guint d = 0; d < job->disks->len; d++) {
        const DroverDisk *disk = job->disks->pdata[d];
        for (guint t = 0; t < disk->tasks->len; t++)
            if (drover_queue_is_eligible(job, disk, disk->tasks->pdata[t], at))
                return true;
    }
    return false;
}

static void explain(World *world, DroverJob *job, const DroverAdmission *admission)
{
    DroverAt at = world_at(world, NULL);
    g_autofree char *why = NULL;
    const char *silent = agent_silence(world, job, &at);
    if (silent != NULL) {
        why = g_strdup_printf("volume agent %s is silent", silent);
    } else if (*job->moving_to != '\0') {
        why = g_strdup_printf("moving from volume agent %s, whose appliance is being drained, to %s", job->agent,
                              job->moving_to);
    } else if (waits_for_worker(job, &at)) {
        g_autoptr(GPtrArray) workers = drover_fleet_ready(world->fleet, DROVER_ROLE_WORKER, job->site, &at);
        if (workers->len == 0)
            why = g_strdup_printf("no worker of site %s is alive", job->site);
        else if (!runs_anything(job) && job->phase == DROVER_PHASE_COPYING)
            why = not_admitted(admission, job);
    }
    if (why == NULL)
        why = growing_snapshot(world, job);
    if (!drover_job_wants_agent(job))
        drover_job_set_stall(job, why);
    world_touch(world, job);
}

static void choose_agent(World *world, DroverJob *job, GPtrArray *active)
{
    DroverAt at = world_at(world, NULL);
    g_autofree char *why = NULL;
    const char *agent =
        drover_queue_choose_agent(job, active, world->options->agents, world->fleet, &at, &why);
    drover_job_set_stall(job, why);
    world_touch(world, job);
    if (agent == NULL)
        return;
    DroverInput input = {.kind = DROVER_INPUT_AGENT, .text = agent};
    world_step(world, job, &input);
}

/* Also jobs that have ended: what they left belongs to their home appliance's agent. */
static void empty_appliances(World *world, GPtrArray *active)
{
    if (world->replaying || !drover_drain_is_on(world->fleet))
        return;
    GHashTableIter iter;
    void *value;
    g_hash_table_iter_init(&iter, world->jobs);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        DroverJob *job = value;
        DroverAt at = world_at(world, NULL);
        const char *home = drover_drain_new_home(job, active, world->options->agents, world->fleet, &at);
        if (home == NULL)
            continue;
        DroverInput input = {.kind = DROVER_INPUT_MOVE, .text = home};
        world_step(world, job, &input);
    }
}

static void check_jobs(World *world, GPtrArray *active)
{
    empty_appliances(world, active);
    g_autoptr(DroverAdmission) admission = drover_admission_of(active, &world->options->limits);
    for (guint i = 0; i < active->len; i++) {
        DroverJob *job = active->pdata[i];
        if (!world->replaying) {
            check_leases(world, job);
            for (guint d = 0; d < job->disks->len; d++)
                check_copied(world, job, job->disks->pdata[d]);
        }
        DroverInput tick = {.kind = DROVER_INPUT_TICK};
        world_step(world, job, &tick);
        explain(world, job, admission);
    }
}

static uint32_t outstanding_at(GPtrArray *active, const char *agent)
{
    uint32_t count = 0;
    for (guint i = 0; i < active->len; i++) {
        const DroverJob *job = active->pdata[i];
        if (g_strcmp0(job->agent, agent) != 0)
            continue;
        for (guint d = 0; d < job->disks->len; d++) {
            const DroverDisk *disk = job->disks->pdata[d];
            count += disk->verify != NULL ? disk->verify->batches->len : 0;
        }
    }
    return count;
}

static bool nothing_more_comes(const DroverDisk *disk)
{
    for (guint t = 0; t < disk->tasks->len; t++) {
        const DroverTask *task = disk->tasks->pdata[t];
        if (drover_task_moves_data(task) && task->status < DROVER_TASK_COPIED)
            return false;
    }
    return true;
}

static void verify_disk(World *world, DroverJob *job, DroverDisk *disk, GPtrArray *active)
{
    const DroverLimits *limits = &world->options->limits;
    DroverAt at = world_at(world, NULL);
    const DroverProcess *agent = drover_fleet_agent(world->fleet, job->agent, &at);
    if (agent == NULL || disk->verify == NULL || !disk->export_open)
        return;
    drover_verify_requeue(disk->verify, agent->instance_id, limits, &at);
    bool flush = nothing_more_comes(disk);
    g_autofree char *topic = g_strdup_printf("drover.tasks.%s", job->agent);
    while (outstanding_at(active, job->agent) < limits->verify_batches) {
        const DroverVerifyBatch *batch = drover_verify_next(disk->verify, disk->cells, flush, limits, &at,
                                                            agent->instance_id, ++world->verify_sequence);
        if (batch == NULL)
            return;
        outbox_add(world->outbox, topic, 0, job->job_id, codec_verify_task(job, disk, batch, world->now_ms));
    }
}

static void verify(World *world, GPtrArray *active)
{
    for (guint i = 0; i < active->len; i++) {
        DroverJob *job = active->pdata[i];
        if (job->phase != DROVER_PHASE_COPYING)
            continue;
        for (guint d = 0; d < job->disks->len; d++)
            verify_disk(world, job, job->disks->pdata[d], active);
    }
}

/* ---- control and grants */

static DroverGrants *grants_of(World *world, const DroverJob *job)
{
    DroverGrants *grants = g_hash_table_lookup(world->grants, job->job_id);
    if (grants == NULL) {
        grants = drover_grants_new();
        g_hash_table_insert(world->grants, g_strdup(job->job_id), grants);
    }
    return grants;
}

static void free_grant(void *data)
{
    g_free((char *)((DroverGrant *)data)->holder);
    g_free(data);
}

/* "<task_id>/<attempt>" -> DroverGrant for all live tasks that move data; NULL for an unlimited job. */
static GHashTable *renew_grants(World *world, const DroverJob *job, uint64_t floor)
{
    if (job->bandwidth_limit == 0)
        return NULL;
    g_autoptr(GArray) wanted = g_array_new(false, true, sizeof(DroverGrant));
    GHashTable *rates = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, free_grant);
    for (guint d = 0; d < job->disks->len; d++) {
        const DroverDisk *disk = job->disks->pdata[d];
        for (guint t = 0; t < disk->tasks->len; t++) {
            const DroverTask *task = disk->tasks->pdata[t];
            if (!drover_task_moves_data(task) || !drover_task_is_live(task))
                continue;
            DroverGrant grant = {.holder = g_strdup_printf("%s/%u", task->task_id, task->attempt)};
            g_array_append_val(wanted, grant);
        }
    }
    DroverGrant *holders = (DroverGrant *)(void *)wanted->data;
    drover_grants_renew(grants_of(world, job), job->bandwidth_limit, floor, holders, wanted->len,
                        world->options->grant_ttl_ms, world->lease_ms);
    for (guint i = 0; i < wanted->len; i++) {
        DroverGrant *grant = g_memdup2(&holders[i], sizeof holders[i]);
        g_hash_table_insert(rates, (char *)grant->holder, grant);
    }
    return rates;
}

static void write_control(World *world, DroverJob *job, GHashTable *rates, uint64_t floor)
{
    const uint64_t *last = g_hash_table_lookup(world->controls, job->job_id);
    job->control_version = MAX(job->control_version, last != NULL ? *last : 0) + 1;
    job->control_dirty = false;
    outbox_add(world->outbox, "drover.control", 0, job->job_id,
               codec_control(job, rates, floor, world->options->grant_ttl_ms, world->options->instance_id,
                             world->now_ms));
}

static GBytes *source_vm_task(World *world, GPtrArray *active, const DroverAssignment *one)
{
    const DroverLimits *limits = &world->options->limits;
    g_auto(GStrv) full = NULL;
    if (one->task->action == DROVER_SOURCE_PREFLIGHT) {
        g_autoptr(DroverAdmission) admission = drover_admission_of(active, limits);
        full = drover_admission_full_hosts(admission, active, one->job->source.vcenter);
    }
    return codec_source_vm_task(one->job, one->disk, one->task, (const char *const *)full, limits->transfers_per_host,
                                world->now_ms);
}

static void send_tasks(World *world, GPtrArray *active, const DroverJob *job, const GArray *assigned, GHashTable *rates)
{
    for (guint i = 0; i < assigned->len; i++) {
        const DroverAssignment *one = &g_array_index(assigned, DroverAssignment, i);
        if (one->job != job)
            continue;
        bool copies = drover_task_moves_data(one->task);
        g_autofree char *topic = g_strdup_printf("drover.tasks.%s.%s", job->site, copies ? "copy" : "source");
        g_autofree char *holder = g_strdup_printf("%s/%u", one->task->task_id, one->task->attempt);
        const DroverGrant *grant = rates != NULL ? g_hash_table_lookup(rates, holder) : NULL;
        GBytes *task = copies ? codec_copy_task(job, one->disk, one->task,
                                                grant != NULL ? grant->bytes_per_second : 0, world->now_ms)
                       : one->task->kind == DROVER_TASK_SOURCE_VM
                           ? source_vm_task(world, active, one)
                           : codec_inspect_task(job, one->disk, one->task, world->now_ms);
        outbox_add(world->outbox, topic, one->task->partition, job->job_id, task);
        g_ptr_array_add(world->handed_out, one->task);
        drover_info("task.assigned", "Handed out a task", F_S("job_id", job->job_id),
                    F_S("disk_id", one->disk->disk_id), F_S("task_id", one->task->task_id),
                    F_U("attempt", one->task->attempt), F_S("worker", one->task->owner_process),
                    F_I("partition", one->task->partition));
    }
}

/* The tasks of a job and its control record belong together: the rate in both comes from one renewal. */
static void hand_out(World *world, GPtrArray *active, bool refresh_grants)
{
    DroverAt at = world_at(world, NULL);
    g_autoptr(GArray) assigned =
        drover_queue_assign(active, world->fleet, &world->options->limits, &at, &world->tasks_ready,
                            &world->tasks_running);
    GHashTableIter iter;
    void *value;
    g_hash_table_iter_init(&iter, world->jobs);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        DroverJob *job = value;
        if (!job->control_dirty &&
            !(refresh_grants && job->bandwidth_limit > 0 && job->phase == DROVER_PHASE_COPYING))
            continue;
        uint64_t floor = drover_grants_floor(job->bandwidth_limit, DROVER_LIMITED_TASKS_MAX);
        g_autoptr(GHashTable) rates = renew_grants(world, job, floor);
        send_tasks(world, active, job, assigned, rates);
        write_control(world, job, rates, floor);
        world_touch(world, job);
    }
}

/* ---- forgetting */

static void forget(World *world, DroverJob *job)
{
    for (guint d = 0; d < job->disks->len; d++) {
        const DroverDisk *disk = job->disks->pdata[d];
        for (guint t = 0; t < disk->tasks->len; t++) {
            g_autofree char *task_key = codec_task_key(job, disk, disk->tasks->pdata[t]);
            outbox_add(world->outbox, "drover.state", 0, task_key, NULL);
        }
        g_autofree char *disk_key = codec_disk_key(job, disk);
        outbox_add(world->outbox, "drover.state", 0, disk_key, NULL);
    }
    g_autofree char *job_key = codec_job_key(job);
    outbox_add(world->outbox, "drover.state", 0, job_key, NULL);
    outbox_add(world->outbox, "drover.control", 0, job->job_id, NULL);
    g_hash_table_remove(world->touched, job);
    g_hash_table_remove(world->grants, job->job_id);
    g_hash_table_remove(world->controls, job->job_id);
}

static void forget_old_jobs(World *world)
{
    GHashTableIter iter;
    void *value;
    g_hash_table_iter_init(&iter, world->jobs);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        DroverJob *job = value;
        if (!drover_phase_is_ended(job->phase) || job->ledger->len > 0 || job->completed_at_ms == 0 ||
            world->now_ms - job->completed_at_ms < world->options->retention_ms)
            continue;
        forget(world, job);
        g_hash_table_iter_remove(&iter);
    }
}

void dispatch_run(World *world)
{
    g_autoptr(GPtrArray) active = world_active(world);
    for (guint i = 0; i < active->len; i++)
        if (drover_job_wants_agent(active->pdata[i]))
            choose_agent(world, active->pdata[i], active);
    if (world->boot_ms >= world->next_check_ms) {
        world->next_check_ms = world->boot_ms + CHECK_INTERVAL_MS;
        check_jobs(world, active);
    }
    verify(world, active);
    bool refresh = world->boot_ms >= world->next_grant_ms;
    if (refresh)
        world->next_grant_ms = world->boot_ms + world->options->grant_ttl_ms / 3;
    hand_out(world, active, refresh);
    if (world->now_ms >= world->next_expiry_ms) {
        world->next_expiry_ms = world->now_ms + EXPIRY_INTERVAL_MS;
        forget_old_jobs(world);
    }
}

void dispatch_written(World *world)
{
    DroverAt at = world_at(world, NULL);
    for (guint i = 0; i < world->handed_out->len; i++)
        drover_task_restart_clocks(world->handed_out->pdata[i], &at);
    g_ptr_array_set_size(world->handed_out, 0);
}

void dispatch_takeover(World *world)
{
    g_autoptr(GPtrArray) active = world_active(world);
    for (guint i = 0; i < active->len; i++) {
        DroverJob *job = active->pdata[i];
        DroverAt at = world_at(world, NULL);
        for (guint d = 0; d < job->disks->len; d++) {
            DroverDisk *disk = job->disks->pdata[d];
            for (guint t = 0; t < disk->tasks->len; t++)
                drover_task_restart_clocks(disk->tasks->pdata[t], &at);
            world_find_token(world, disk);
            apply_settle_tasks(world, job, disk);
        }
        job->control_dirty = true;
    }
}
