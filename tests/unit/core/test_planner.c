/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "core/backoff.h"
#include "core/task/planner.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

/* Whole disk, in order, on cells, nothing twice, and the planned bytes are those of the disk. */
static void assert_sound(const DroverShape *shape, const GArray *plan, uint64_t total)
{
    uint64_t at = 0, planned = 0;
    for (guint i = 0; i < plan->len; i++) {
        const DroverPlannedRange *one = &g_array_index(plan, DroverPlannedRange, i);
        assert_int_equal(one->range.offset, at);
        assert_true(one->range.length > 0 && one->range.length <= DROVER_RANGE_SPAN_MAX);
        assert_int_equal(one->range.offset % DROVER_CELL_BYTES, 0);
        assert_true(one->planned_bytes <= one->range.length);
        at += one->range.length;
        assert_true(at % DROVER_CELL_BYTES == 0 || at == shape->capacity_bytes);
        planned += one->planned_bytes;
    }
    assert_int_equal(at, shape->capacity_bytes);
    assert_int_equal(planned, total);
}

static void test_task_bytes(void **state)
{
    (void)state;
    assert_int_equal(drover_plan_task_bytes(0, 0), DROVER_RANGE_MIN);
    assert_int_equal(drover_plan_task_bytes(64 * GIB, 4), 4 * GIB);
    assert_int_equal(drover_plan_task_bytes(100000 * GIB, 4), DROVER_RANGE_MAX);
    assert_int_equal(drover_plan_task_bytes(1 * GIB, 4), DROVER_RANGE_MIN);
}

static void test_even(void **state)
{
    (void)state;
    DroverShape shape = {.capacity_bytes = 4 * GIB + 512, .allocated_bytes = 4 * GIB + 512};
    g_autoptr(GArray) plan = drover_plan_by_data(&shape, GIB);
    assert_sound(&shape, plan, shape.allocated_bytes);
    assert_int_equal(plan->len, 4); /* 512 bytes are no task of their own */
}

static void test_empty_disk(void **state)
{
    (void)state;
    DroverShape shape = {.capacity_bytes = 1000 * GIB};
    g_autoptr(GArray) plan = drover_plan_by_data(&shape, DROVER_RANGE_MIN);
    assert_sound(&shape, plan, 0);
    assert_int_equal(plan->len, 16); /* read back, too: bounded by the span */
}

static void test_clustered(void **state)
{
    (void)state;
    uint64_t buckets[100] = {0};
    buckets[50] = buckets[51] = GIB;
    DroverShape shape = {100 * GIB, 2 * GIB, GIB, buckets, 100};
    g_autoptr(GArray) plan = drover_plan_by_data(&shape, 512 * MIB);
    assert_sound(&shape, plan, 2 * GIB);
    guint busy = 0;
    for (guint i = 0; i < plan->len; i++)
        busy += g_array_index(plan, DroverPlannedRange, i).planned_bytes > 0;
    assert_in_range(busy, 4, 5);
}

static void test_by_length(void **state)
{
    (void)state;
    DroverShape shape = {.capacity_bytes = GIB + 1, .allocated_bytes = 5};
    g_autoptr(GArray) plan = drover_plan_by_length(&shape, 100 * MIB); /* 128 MiB in cells */
    assert_sound(&shape, plan, 5);
    assert_int_equal(plan->len, 9);
    g_autoptr(GArray) smallest = drover_plan_by_length(&shape, 1);
    assert_int_equal(smallest->len, 33);
}

static void test_random(void **state)
{
    (void)state;
    g_autoptr(GRand) random = g_rand_new_with_seed(7);
    for (int round = 0; round < 300; round++) {
        uint64_t bucket = DROVER_CELL_BYTES * (uint64_t)g_rand_int_range(random, 1, 40);
        size_t n = (size_t)g_rand_int_range(random, 1, 300);
        uint64_t capacity = bucket * n - (uint64_t)g_rand_int_range(random, 0, 1 << 20), total = 0;
        g_autofree uint64_t *buckets = g_new0(uint64_t, n);
        for (size_t i = 0; i < n; i++) {
            uint64_t length = i + 1 < n ? bucket : capacity - bucket * (n - 1);
            buckets[i] =
                g_rand_boolean(random) ? length * (uint64_t)g_rand_int_range(random, 0, 101) / 100 : 0;
            total += buckets[i];
        }
        DroverShape shape = {capacity, total, bucket, buckets, n};
        uint64_t task_bytes = drover_plan_task_bytes(total, (uint32_t)g_rand_int_range(random, 1, 20));
        g_autoptr(GArray) plan = drover_plan_by_data(&shape, task_bytes);
        g_autoptr(GArray) again = drover_plan_by_data(&shape, task_bytes);
        assert_sound(&shape, plan, total);
        assert_int_equal(plan->len, again->len);
        assert_memory_equal(plan->data, again->data, plan->len * sizeof(DroverPlannedRange));
        for (guint i = 0; i < plan->len; i++)
            assert_true(g_array_index(plan, DroverPlannedRange, i).planned_bytes <=
                        task_bytes + task_bytes / 4 + DROVER_CELL_BYTES);
    }
}

static void test_backoff(void **state)
{
    (void)state;
    int64_t last = 0;
    for (uint32_t failures = 1; failures < 20; failures++) {
        int64_t longest = drover_backoff_ms(failures, 1000, 60000, UINT32_MAX);
        assert_true(longest >= last && longest <= 60000);
        assert_true(drover_backoff_ms(failures, 1000, 60000, 0) >= longest / 2);
        last = longest;
    }
    assert_int_equal(drover_backoff_ms(1, 1000, 60000, UINT32_MAX), 1000);
    assert_int_equal(last, 60000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_task_bytes), cmocka_unit_test(test_even),
        cmocka_unit_test(test_empty_disk), cmocka_unit_test(test_clustered),
        cmocka_unit_test(test_by_length),  cmocka_unit_test(test_random),
        cmocka_unit_test(test_backoff),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
