/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A round that takes too long holds its snapshot too long: the snapshot grows, slows its VM down, and stops all VMs of a
 * datastore that it fills. Then the round is
 * cut short and goes on over a younger snapshot: what is copied by now was read back and counts; the next round copies
 * what was still missing, and what changed since the old snapshot (found_change_id of the round that is cut short).
 */
#include "core/job/internal.h"

#include "core/task/cells.h"
#include "core/task/planner.h"
#include "core/task/task.h"
#include "core/task/verify.h"
#include "lib/rangeset/rangeset.h"

/* What one disk may carry over: it must fit into its record. */
#define CARRIED_MAX 16000u

static bool is_missing(const DroverDisk *disk, size_t cell)
{
    return !disk->cells->cell[cell].verified || disk->cells->cell[cell].repairing;
}

static void add_all(DroverRangeset *set, const GArray *areas)
{
    for (guint i = 0; areas != NULL && i < areas->len; i++) {
        const DroverRange *area = &g_array_index(areas, DroverRange, i);
        drover_rangeset_add(set, area->offset, area->length);
    }
}

static GArray *list_of(DroverRangeset *set)
{
    size_t n = 0;
    const DroverRange *ranges = drover_rangeset_ranges(set, &n);
    GArray *list = g_array_new(false, false, sizeof(DroverRange));
    if (n > 0)
        g_array_append_vals(list, ranges, (guint)n);
    return list;
}

/* What the round was to copy and is not read back, in whole cells where WHOLE. */
static GArray *missing(const DroverDisk *disk, bool whole)
{
    g_autoptr(DroverRangeset) set = drover_rangeset_new();
    for (guint t = 0; disk->cells != NULL && t < disk->tasks->len; t++) {
        const DroverTask *task = disk->tasks->pdata[t];
        if (task->kind != DROVER_TASK_COPY || task->round != disk->round)
            continue;
        for (size_t i = drover_cells_begin(&task->range); i < drover_cells_end(&task->range); i++) {
            uint64_t offset = i * DROVER_CELL_BYTES;
            DroverRange cell = {offset, MIN(DROVER_CELL_BYTES, disk->capacity_bytes - offset)};
            if (!is_missing(disk, i))
                continue;
            g_autoptr(GArray) inside = task->areas != NULL ? drover_areas_in(task->areas, &cell) : NULL;
            if (inside != NULL && !whole)
                add_all(set, inside);
            else if (inside == NULL || inside->len > 0)
                drover_rangeset_add(set, cell.offset, cell.length);
        }
    }
    return list_of(set);
}

/* Of a disk that is not done: a small one that soon is, each time, must not cut the large one short for ever. */
static bool has_moved_on(const DroverDisk *disk)
{
    bool some = false, all = true;
    for (guint t = 0; t < disk->tasks->len && disk->cells != NULL; t++) {
        const DroverTask *task = disk->tasks->pdata[t];
        if (task->kind != DROVER_TASK_COPY || task->round != disk->round)
            continue;
        size_t verified = drover_cells_count_verified(disk->cells, &task->range);
        some |= verified > 0;
        all &= verified == drover_cells_end(&task->range) - drover_cells_begin(&task->range);
    }
    return some && !all;
}

static bool anything_is_copied(const DroverJob *job)
{
    for (guint i = 0; i < job->disks->len; i++)
        if (has_moved_on(job->disks->pdata[i]))
            return true;
    return false;
}

static bool every_disk_can(const DroverJob *job)
{
    for (guint i = 0; i < job->disks->len; i++) {
        const DroverDisk *disk = job->disks->pdata[i];
        /* A comparison has nothing to carry over; without a change id it is not known what would change meanwhile. */
        if (disk->sync_type == DROVER_SYNC_DEEP_VERIFY || *disk->found_change_id == '\0')
            return false;
    }
    return true;
}

static void carry(Step *step, DroverDisk *disk)
{
    g_autoptr(GArray) areas = missing(disk, false);
    if (areas->len > CARRIED_MAX) {
        g_array_unref(areas);
        areas = missing(disk, true);
    }
    for (guint t = 0; t < disk->tasks->len; t++) {
        const DroverTask *task = disk->tasks->pdata[t];
        DroverCounts counts = {0};
        if (task->kind == DROVER_TASK_COPY && disk->cells != NULL) {
            g_byte_array_unref(drover_cells_done_bits(disk->cells, &task->range, &counts));
            disk->final_counts.data += counts.data;
            disk->final_counts.zero_found += counts.zero_found;
        }
        drover_task_cancel(disk->tasks->pdata[t], step->at);
    }
    g_clear_pointer(&disk->carried, g_array_unref);
    if (*disk->receipt == '\0')
        disk->carried = g_steal_pointer(&areas);
    drover_set_string(&disk->base_change_id, disk->found_change_id);
    disk->export_open = false; /* the next opening cuts off whoever still writes */
    g_clear_pointer(&disk->cells, drover_cells_free);
    g_clear_pointer(&disk->verify, drover_verify_free);
    disk->dirty = true;
}

bool drover_job_is_rebasing(const DroverJob *job)
{
    for (guint i = 0; i < job->disks->len; i++)
        if (*((const DroverDisk *)job->disks->pdata[i])->base_change_id != '\0')
            return true;
    return false;
}

bool drover_step_rebase(Step *step)
{
    DroverJob *job = step->job;
    int64_t age_ms = step->at->now_ms - job->source.snapshot_at_ms;
    bool too_old = age_ms >= (int64_t)job->source.snapshot_max_age_ms;
    if (!job->source.present || job->final_round || job->source.snapshot_at_ms == 0 ||
        (!too_old && *job->source.short_of_room == '\0') || job->paused || job->operations->len > 0 ||
        !every_disk_can(job) || !anything_is_copied(job))
        return false;
    drover_outputs_audit(step->outputs, "warning", "job.rebase", NULL,
                         "Snapshot of round %u is %" G_GINT64_FORMAT " minutes old%s: the round goes on over a younger one",
                         job->round, age_ms / 60000, too_old ? "" : " and has no room to grow");
    for (guint i = 0; i < job->disks->len; i++)
        carry(step, job->disks->pdata[i]);
    drover_step_remember_round(step);
    drover_step_enter(step, DROVER_PHASE_REPLICATING);
    return true;
}

GArray *drover_disk_areas_with_carried(const DroverDisk *disk, const GArray *areas)
{
    g_autoptr(DroverRangeset) set = drover_rangeset_new();
    add_all(set, areas);
    add_all(set, disk->carried);
    return list_of(set);
}
