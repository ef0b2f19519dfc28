/* SPDX-License-Identifier: Apache-2.0 */
/* Rounds after the first: of which kind, over what, and what follows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "core/task/planner.h"
#include "core/task/task.h"
#include "sim.h"

#define MIB (UINT64_C(1) << 20)

static GArray *areas_of(const DroverRange *ranges, guint n)
{
    GArray *areas = g_array_new(false, false, sizeof(DroverRange));
    g_array_append_vals(areas, ranges, n);
    return areas;
}

static DroverDisk *first_disk(const Sim *sim)
{
    return sim->job->disks->pdata[0];
}

static void sync_job(Sim *sim, int sync_type, int64_t interval_ms)
{
    DroverInput input = {.kind = DROVER_INPUT_SYNC, .sync_type = sync_type, .has_interval = interval_ms >= 0};
    input.interval_ms = input.has_interval ? (uint64_t)interval_ms : 0;
    sim_input(sim, &input);
}

/* The inspection of the round finds CAPACITY, AREAS (NULL: not known) and CHANGE_ID. */
static void inspect_round(Sim *sim, uint64_t capacity, const GArray *areas, const char *change_id)
{
    DroverTask *task = first_disk(sim)->tasks->pdata[0];
    assert_int_equal(task->kind, DROVER_TASK_INSPECT);
    drover_task_assign(task, "worker-1", 0, &sim->at);
    assert_int_equal(drover_task_claimed(task, 1, "worker-1", "w1", &sim->at), DROVER_TASK_ACCEPTED);
    assert_int_equal(drover_task_finished(task, 1, "w1", &sim->at), DROVER_TASK_ACCEPTED);
    g_autoptr(GBytes) identity = g_bytes_new("", 0);
    DroverInspection found = {.identity = identity, .change_id = change_id, .format = "raw", .capacity_bytes = capacity,
                              .allocated_bytes = capacity, .frozen = true, .areas = areas};
    DroverInput input = {.kind = DROVER_INPUT_INSPECTED, .disk_id = "disk0", .inspection = &found};
    sim_input(sim, &input);
}

static Sim *parked(void)
{
    Sim *sim = sim_new(1, false);
    sim_finish(sim);
    assert_int_equal(sim->job->phase, DROVER_PHASE_COMPLETED);
    return sim;
}

static void test_incremental(void **state)
{
    (void)state;
    Sim *sim = parked();
    DroverDisk *disk = first_disk(sim);
    g_autofree char *receipt = g_strdup(disk->receipt);
    const DroverRange changed[] = {{512, 512}, {3 * DROVER_CELL_BYTES, 2 * DROVER_CELL_BYTES}};
    g_autoptr(GArray) areas = areas_of(changed, 2);
    sync_job(sim, 0, -1);
    assert_string_equal(disk->receipt, "");
    inspect_round(sim, disk->capacity_bytes, areas, "c1");
    assert_int_equal(disk->sync_type, DROVER_SYNC_INCREMENTAL);
    assert_int_equal(disk->allocated_bytes, 512 + 2 * DROVER_CELL_BYTES);
    assert_string_equal(disk->change_id, ""); /* not before the round is final */
    sim_finish(sim);
    assert_int_equal(sim->job->phase, DROVER_PHASE_COMPLETED);
    assert_string_equal(disk->change_id, "c1");
    assert_string_equal(disk->previous_receipt, receipt);
    assert_string_not_equal(disk->receipt, receipt);
    assert_int_equal(sim->job->rounds->len, 2);
    sim_free(sim);
}

static void test_nothing_changed(void **state)
{
    (void)state;
    Sim *sim = parked();
    g_autoptr(GArray) areas = areas_of(NULL, 0);
    sync_job(sim, 0, -1);
    inspect_round(sim, first_disk(sim)->capacity_bytes, areas, "c1");
    sim_finish(sim);
    assert_int_equal(sim->job->phase, DROVER_PHASE_COMPLETED);
    assert_string_equal(first_disk(sim)->change_id, "c1");
    sim_free(sim);
}

static void test_comparison_where_it_must_be(void **state)
{
    (void)state;
    const DroverRange changed[] = {{0, 512}};
    g_autoptr(GArray) areas = areas_of(changed, 1);
    for (int i = 0; i < 3; i++) {
        Sim *sim = parked();
        DroverDisk *disk = first_disk(sim);
        sync_job(sim, i == 0 ? DROVER_SYNC_DEEP_VERIFY : 0, -1); /* asked for; areas not known; grown */
        inspect_round(sim, disk->capacity_bytes + (i == 2 ? 512 : 0), i == 1 ? NULL : areas, "c1");
        assert_int_equal(disk->sync_type, DROVER_SYNC_DEEP_VERIFY);
        sim_finish(sim);
        assert_int_equal(sim->job->phase, DROVER_PHASE_COMPLETED);
        sim_free(sim);
    }
}

static void test_sizes_that_are_refused(void **state)
{
    (void)state;
    static const char *const codes[] = {"DRV-SOURCE-SHRUNK", "DRV-TARGET-TOO-SMALL"};
    for (int i = 0; i < 2; i++) {
        Sim *sim = parked();
        DroverDisk *disk = first_disk(sim);
        sync_job(sim, 0, -1);
        inspect_round(sim, i == 0 ? disk->capacity_bytes - 512 : disk->target_size_bytes + 512, NULL, "c1");
        sim_finish(sim);
        assert_int_equal(sim->job->phase, DROVER_PHASE_FAILED);
        assert_string_equal(sim->job->error.code, codes[i]);
        assert_string_not_equal(disk->volume_id, ""); /* kept */
        /* The next round does not trust what the failed one left. */
        sync_job(sim, 0, -1);
        assert_int_equal(sim->job->sync_type, DROVER_SYNC_DEEP_VERIFY);
        sim_free(sim);
    }
}

static void test_replication(void **state)
{
    (void)state;
    Sim *sim = parked();
    g_autoptr(GArray) areas = areas_of(NULL, 0);
    sync_job(sim, 0, 60000);
    inspect_round(sim, first_disk(sim)->capacity_bytes, areas, "c1");
    for (int i = 0; i < 1000 && sim->job->phase != DROVER_PHASE_REPLICATING; i++)
        sim_fair(sim);
    assert_int_equal(sim->job->phase, DROVER_PHASE_REPLICATING);
    sim_command(sim, DROVER_INPUT_PAUSE);
    sim->at.now_ms += 120000;
    sim_command(sim, DROVER_INPUT_TICK);
    assert_int_equal(sim->job->phase, DROVER_PHASE_REPLICATING);
    sim_command(sim, DROVER_INPUT_RESUME);
    assert_int_equal(sim->job->round, 2); /* due */
    /* Asked for in the middle of a round: the last round begins after that. */
    sim->at.now_ms += 1000;
    DroverInput failover = {.kind = DROVER_INPUT_FAILOVER, .failover = DROVER_FAILOVER_LIVE};
    sim_input(sim, &failover);
    sim_finish(sim);
    assert_int_equal(sim->job->phase, DROVER_PHASE_COMPLETED);
    assert_int_equal(sim->job->round, 3);
    assert_string_equal(sim->job->failover_status, "completed");
    sync_job(sim, 0, -1);
    assert_int_equal(sim->job->round, 3); /* diverged */
    sim_free(sim);
}

static void test_plan_by_areas(void **state)
{
    (void)state;
    g_autoptr(GArray) areas = g_array_new(false, false, sizeof(DroverRange));
    uint64_t bytes = 0, capacity = 40 * DROVER_CELL_BYTES;
    for (uint64_t at = 512; at + 700 * 1024 < capacity; at += 900 * 1024) {
        DroverRange area = {at, 700 * 1024};
        g_array_append_val(areas, area);
        bytes += area.length;
    }
    g_autoptr(GArray) plan = drover_plan_by_areas(areas, capacity, 100 * MIB, 60);
    uint64_t planned = 0, found = 0, end = 0;
    assert_true(plan->len > 10);
    for (guint i = 0; i < plan->len; i++) {
        const DroverPlannedRange *one = &g_array_index(plan, DroverPlannedRange, i);
        assert_true(one->range.offset >= end && one->range.offset % DROVER_CELL_BYTES == 0);
        end = one->range.offset + one->range.length;
        assert_true(end % DROVER_CELL_BYTES == 0 || end == capacity);
        g_autoptr(GArray) inside = drover_areas_in(areas, &one->range);
        assert_true(inside->len <= 60 + DROVER_CELL_BYTES / (900 * 1024) + 2);
        for (guint k = 0; k < inside->len; k++)
            found += g_array_index(inside, DroverRange, k).length;
        planned += one->planned_bytes;
    }
    assert_int_equal(planned, bytes);
    assert_int_equal(found, bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_incremental),
        cmocka_unit_test(test_nothing_changed),
        cmocka_unit_test(test_comparison_where_it_must_be),
        cmocka_unit_test(test_sizes_that_are_refused),
        cmocka_unit_test(test_replication),
        cmocka_unit_test(test_plan_by_areas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
