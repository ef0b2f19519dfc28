/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/apply_event.h"

#include "core/backoff.h"
#include "core/task/cells.h"
#include "core/dispatch/grants.h"
#include "core/task/task.h"
#include "core/task/verify.h"
#include "scheduler/codec.h"

/* Where an event belongs. */
typedef struct {
    DroverJob *job;
    DroverDisk *disk;
    DroverTask *task;
} Subject;

void apply_settle_tasks(World *world, DroverJob *job, DroverDisk *disk)
{
    bool any = false;
    uint64_t verified = 0;
    DroverAt at = world_at(world, job);
    if (disk->cells == NULL)
        return;
    for (guint i = 0; i < disk->tasks->len; i++) {
        DroverTask *task = disk->tasks->pdata[i];
        if (!drover_task_moves_data(task) || task->status != DROVER_TASK_COPIED ||
            drover_cells_count_verified(disk->cells, &task->range) <
                drover_cells_end(&task->range) - drover_cells_begin(&task->range))
            continue;
        DroverCounts counts = {0};
        g_byte_array_unref(drover_cells_done_bits(disk->cells, &task->range, &counts));
        counts.resent = task->counts.resent;
        counts.read = task->counts.read;
        task->counts = counts;
        drover_task_done(task, &at);
        any = true;
    }
    for (size_t i = 0; i < disk->cells->n; i++)
        if (disk->cells->cell[i].verified)
            verified += MIN(DROVER_CELL_BYTES, disk->capacity_bytes - i * DROVER_CELL_BYTES);
    if (verified != disk->verified_bytes) {
        disk->verified_bytes = verified;
        disk->dirty = true;
    }
    world_touch(world, job);
    if (any) {
        DroverInput tick = {.kind = DROVER_INPUT_TICK};
        world_step(world, job, &tick);
    }
}

static void fail_job(World *world, DroverJob *job, const DroverFault *fault)
{
    DroverInput input = {.kind = DROVER_INPUT_FAULT, .fault = fault};
    world_step(world, job, &input);
}

void apply_verdict(World *world, DroverJob *job, const DroverDisk *disk, DroverTask *task, int verdict)
{
    if (verdict == DROVER_TASK_STALE)
        return;
    job->control_dirty = true;
    world_touch(world, job);
    const char *why = task->error.message != NULL ? task->error.message : "";
    if (verdict == DROVER_TASK_AGAIN) {
        world_audit(world, job, disk->disk_id, "warning", "task.again",
                    "%s will be handed out again after attempt %u%s%s", task->task_id, task->attempt,
                    *why != '\0' ? ": " : "", why);
    } else if (verdict == DROVER_TASK_GIVEN_UP) {
        DroverFault fault = {0};
        drover_fault_copy(&fault, &task->error);
        fault.error_class = DROVER_ERROR_PERMANENT;
        DroverInput given_up = {.kind = DROVER_INPUT_SOURCE_FAILED, .action = task->action, .fault = &fault};
        if (task->kind == DROVER_TASK_SOURCE_VM)
            world_step(world, job, &given_up);
        else
            fail_job(world, job, &fault);
        drover_fault_clear(&fault);
    }
}

static void claimed(World *world, const Subject *on, const CodecEvent *event)
{
    DroverAt at = world_at(world, on->job);
    if (drover_task_claimed(on->task, event->attempt, event->process_id, event->instance_id, &at) ==
        DROVER_TASK_STALE)
        return;
    on->job->control_dirty = true;
    world_touch(world, on->job);
}

static void finished(World *world, const Subject *on, const CodecEvent *event)
{
    DroverAt at = world_at(world, on->job);
    if (!drover_task_moves_data(on->task) ||
        drover_task_finished(on->task, event->attempt, event->instance_id, &at) == DROVER_TASK_STALE)
        return;
    on->task->counts.resent += event->counts.resent;
    on->task->counts.read += event->counts.read;
    on->job->control_dirty = true;
    apply_settle_tasks(world, on->job, on->disk);
    DroverInput tick = {.kind = DROVER_INPUT_TICK};
    world_step(world, on->job, &tick);
}

static void failed(World *world, const Subject *on, const CodecEvent *event)
{
    DroverAt at = world_at(world, on->job);
    /* A flush that failed says nothing about earlier writes: what was not read back is void, for all tasks.
     * Several workers may report the same one, the later ones after they have been revoked for it. */
    bool poisoned = drover_task_moves_data(on->task) &&
                    g_strcmp0(event->fault.code, "DRV-TARGET-FLUSH") == 0 &&
                    event->attempt == on->task->attempt && on->task->generation == on->disk->generation;
    DroverFault fault = {0};
    drover_fault_copy(&fault, &event->fault);
    if (poisoned)
        fault.error_class = DROVER_ERROR_RETRYABLE;
    int verdict = drover_task_failed(on->task, event->attempt, event->instance_id, &fault,
                                     &world->options->limits, &at);
    apply_verdict(world, on->job, on->disk, on->task, verdict);
    if (poisoned && verdict != DROVER_TASK_GIVEN_UP) {
        DroverInput input = {.kind = DROVER_INPUT_POISONED, .disk_id = on->disk->disk_id, .fault = &fault};
        world_step(world, on->job, &input);
    }
    drover_fault_clear(&fault);
}

static void released(World *world, const Subject *on, const CodecEvent *event)
{
    DroverAt at = world_at(world, on->job);
    if (drover_task_released(on->task, event->attempt, event->instance_id, &at) == DROVER_TASK_STALE)
        return;
    on->job->control_dirty = true;
    world_audit(world, on->job, on->disk->disk_id, "info", "task.released", "%s was handed back by %s: %s",
                on->task->task_id, event->process_id, event->reason);
}

static void inspected(World *world, const Subject *on, const CodecEvent *event)
{
    DroverAt at = world_at(world, on->job);
    if (on->task->kind != DROVER_TASK_INSPECT ||
        drover_task_finished(on->task, event->attempt, event->instance_id, &at) == DROVER_TASK_STALE)
        return;
    on->job->control_dirty = true;
    DroverInput input = {
        .kind = DROVER_INPUT_INSPECTED, .disk_id = on->disk->disk_id, .inspection = &event->inspection};
    world_step(world, on->job, &input);
}

static void source_vm(World *world, const Subject *on, const CodecEvent *event)
{
    DroverAt at = world_at(world, on->job);
    if (on->task->kind != DROVER_TASK_SOURCE_VM ||
        drover_task_finished(on->task, event->attempt, event->instance_id, &at) == DROVER_TASK_STALE)
        return;
    on->job->control_dirty = true;
    DroverInput input = {.kind = DROVER_INPUT_SOURCE_DONE, .action = on->task->action, .source = &event->source};
    world_step(world, on->job, &input);
}

/* A repair for each run of neighbouring cells. MISMATCHED is in ascending order of cells within a batch. */
static void repair(World *world, const Subject *on, const uint64_t *cells, size_t n)
{
    g_autoptr(GPtrArray) outputs = drover_outputs_new();
    for (size_t i = 0; i < n;) {
        size_t k = i + 1;
        while (k < n && cells[k] == cells[k - 1] + 1)
            k++;
        DroverAt at = world_at(world, on->job);
        if (!drover_job_repair(on->job, on->disk, cells[i], cells[k - 1], &world->options->limits, &at,
                               outputs))
            break;
        i = k;
    }
    world_outputs(world, on->job, outputs);
}

static int compare_cells(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Keeps what is worth a repair: known cells that are still waiting for this answer. */
static GArray *open_cells(const DroverDisk *disk, const uint64_t *cells, size_t n)
{
    GArray *open = g_array_new(false, false, sizeof(uint64_t));
    for (size_t i = 0; i < n; i++) {
        if (cells[i] >= disk->cells->n)
            continue;
        const DroverCell *cell = &disk->cells->cell[cells[i]];
        if (cell->checkpointed && !cell->verified && !cell->repairing)
            g_array_append_val(open, cells[i]);
    }
    g_array_sort(open, compare_cells);
    return open;
}

static void mark_verified(DroverDisk *disk, const GArray *cells)
{
    if (cells->len == 0)
        return;
    for (guint i = 0; i < cells->len; i++)
        disk->cells->cell[g_array_index(cells, uint64_t, i)].verified = true;
    uint64_t first = g_array_index(cells, uint64_t, 0), last = g_array_index(cells, uint64_t, cells->len - 1);
    for (guint i = 0; i < disk->tasks->len; i++) {
        DroverTask *task = disk->tasks->pdata[i];
        if (drover_task_moves_data(task) && drover_cells_begin(&task->range) <= last &&
            drover_cells_end(&task->range) > first)
            task->dirty = true;
    }
}

static void verified(World *world, const Subject *on, const CodecEvent *event)
{
    DroverDisk *disk = on->disk;
    if (disk->verify == NULL ||
        !drover_verify_answer(disk->verify, event->sequence, event->verified, event->n_verified,
                              event->mismatched, event->n_mismatched, world->lease_ms))
        return;
    if (event->generation != disk->generation)
        return; /* what was compared is not what counts any more; void cells are dropped when they would be
                   asked again */
    g_autoptr(GArray) equal = open_cells(disk, event->verified, event->n_verified);
    mark_verified(disk, equal);
    const DroverLimits *limits = &world->options->limits;
    if (event->fault.error_class != 0) {
        disk->verify->failures++;
        disk->verify->not_before_ms =
            world->lease_ms + drover_backoff_ms(disk->verify->failures, limits->backoff_first_ms,
                                                limits->backoff_max_ms, g_rand_int(world->random));
        world_audit(world, on->job, disk->disk_id, "warning", "disk.verify-failed", "Read-back failed: %s",
                    event->fault.message);
        if (event->fault.error_class == DROVER_ERROR_PERMANENT &&
            disk->verify->failures >= limits->max_failures) {
            fail_job(world, on->job, &event->fault);
            return;
        }
    } else {
        disk->verify->failures = 0;
    }
    g_autoptr(GArray) differing = open_cells(disk, event->mismatched, event->n_mismatched);
    if (differing->len > 0)
        repair(world, on, (const uint64_t *)(const void *)differing->data, differing->len);
    apply_settle_tasks(world, on->job, disk);
}

static bool from_worker_of(const DroverRecord *record, const DroverJob *job)
{
    return g_str_equal(record->topic + strlen("drover.events."), job->site);
}

static bool from_agent_of(const DroverRecord *record, const DroverJob *job)
{
    return g_str_equal(record->topic + strlen("drover.events."), job->agent);
}

/* Whoever says that an attempt is over uses its grant no more: others need not wait for it to expire. */
static void end_grant(World *world, const CodecEvent *event)
{
    DroverGrants *grants = g_hash_table_lookup(world->grants, event->job_id);
    bool over = event->kind == CODEC_EVENT_FINISHED || event->kind == CODEC_EVENT_FAILED ||
                event->kind == CODEC_EVENT_RELEASED;
    if (grants == NULL || !over)
        return;
    g_autofree char *holder = g_strdup_printf("%s/%u", event->task_id, event->attempt);
    drover_grants_end(grants, holder);
}

typedef void (*Handler)(World *world, const Subject *on, const CodecEvent *event);

void apply_event(World *world, const DroverRecord *record)
{
    static const Handler of_workers[] = {
        [CODEC_EVENT_CLAIMED] = claimed,   [CODEC_EVENT_FINISHED] = finished,   [CODEC_EVENT_FAILED] = failed,
        [CODEC_EVENT_RELEASED] = released, [CODEC_EVENT_INSPECTED] = inspected, [CODEC_EVENT_SOURCE_VM] = source_vm,
        [CODEC_EVENT_OTHER] = NULL,
    };
    g_autoptr(GError) error = NULL;
    g_autoptr(CodecEvent) event = codec_event(record->value, record->len, &error);
    if (event == NULL) {
        outbox_add_letter(world->outbox, record, error->message);
        return;
    }
    Subject on = {.job = g_hash_table_lookup(world->jobs, event->job_id)};
    if (on.job == NULL || (on.disk = drover_job_disk(on.job, event->disk_id)) == NULL)
        return;
    if (event->kind == CODEC_EVENT_VERIFIED) {
        if (from_agent_of(record, on.job))
            verified(world, &on, event);
        return;
    }
    on.task = drover_disk_task(on.disk, event->task_id);
    if (from_worker_of(record, on.job))
        end_grant(world, event);
    if (on.task != NULL && of_workers[event->kind] != NULL && from_worker_of(record, on.job))
        of_workers[event->kind](world, &on, event);
}
