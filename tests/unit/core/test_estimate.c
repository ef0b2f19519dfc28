/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "core/preflight/estimate.h"
#include "core/preflight/waves.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define MINUTE UINT64_C(60000)

static void test_unknown(void **state)
{
    (void)state;
    DroverEstimateFacts facts = {.used_bytes = 100 * GIB};
    DroverEstimate e = drover_estimate(&facts);
    assert_true(e.throughput_assumed && e.change_rate_assumed && e.converges);
    assert_true(e.first_round_ms.low < e.first_round_ms.high);
    assert_in_range(e.first_round_ms.high / MINUTE, 42, 44); /* 100 GiB at 40 MiB/s */
    assert_in_range(e.first_round_ms.low / MINUTE, 5, 6);
    assert_true(e.downtime_ms.low >= 2 * MINUTE && e.downtime_ms.high >= 15 * MINUTE);
    assert_true(e.last_round_bytes.low < e.last_round_bytes.high);
}

static void test_measured(void **state)
{
    (void)state;
    DroverEstimateFacts facts = {.used_bytes = 100 * GIB, .throughput = {100 * MIB, 100 * MIB},
                                 .changed_bytes_per_hour = {3600 * MIB, 3600 * MIB}, .round_interval_ms = 10 * MINUTE};
    DroverEstimate e = drover_estimate(&facts);
    assert_false(e.throughput_assumed || e.change_rate_assumed);
    assert_true(e.converges);
    assert_int_equal(e.last_round_bytes.low, 600 * MIB); /* ten minutes of 1 MiB/s */
    assert_int_equal(e.last_round_bytes.high, 600 * MIB);
    assert_in_range(e.first_round_ms.low / 1000, 1024, 1024 + 60);
}

static void test_never_catches_up(void **state)
{
    (void)state;
    DroverEstimateFacts facts = {.used_bytes = 10 * GIB, .throughput = {10 * MIB, 20 * MIB},
                                 .changed_bytes_per_hour = {0, 3600 * 10 * MIB}};
    DroverEstimate e = drover_estimate(&facts);
    assert_false(e.converges);
    assert_int_equal(e.last_round_bytes.low, 0);
    assert_int_equal(e.last_round_bytes.high, 10 * GIB);
    assert_true(e.downtime_ms.high >= 1024 * 1000);
}

static void test_empty(void **state)
{
    (void)state;
    DroverEstimateFacts facts = {0};
    DroverEstimate e = drover_estimate(&facts);
    assert_int_equal(e.last_round_bytes.high, 0);
    assert_true(e.first_round_ms.high <= MINUTE);
}

static void test_waves(void **state)
{
    (void)state;
    DroverWaveVm vms[] = {
        {.risk = 2, .used_bytes = 1, .time_ms = 1},  {.used_bytes = 900, .time_ms = 100}, /* longer than the window */
        {.used_bytes = 30, .time_ms = 3}, {.used_bytes = 10, .time_ms = 1}, {.used_bytes = 20, .time_ms = 2},
        {.used_bytes = 40, .time_ms = 4}, {.used_bytes = 50, .time_ms = 5}, {.used_bytes = 60, .time_ms = 12},
    };
    DroverWaveLimits limits = {.window_ms = 10, .parallel = 2, .most_vms = 10};
    assert_int_equal(drover_plan_waves(vms, 8, &limits), 5);
    assert_int_equal(vms[3].wave, 1); /* the three smallest without risk */
    assert_int_equal(vms[4].wave, 1);
    assert_int_equal(vms[2].wave, 1);
    assert_int_equal(vms[5].wave, 2);
    assert_int_equal(vms[6].wave, 2);
    assert_int_equal(vms[7].wave, 3); /* 12 is more than a window, however many are copied at once */
    assert_int_equal(vms[1].wave, 4);
    assert_int_equal(vms[0].wave, 5);
    limits.most_vms = 1;
    assert_int_equal(drover_plan_waves(vms, 8, &limits), 8);
    assert_int_equal(drover_plan_waves(vms, 0, &limits), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unknown), cmocka_unit_test(test_measured), cmocka_unit_test(test_never_catches_up),
        cmocka_unit_test(test_empty),   cmocka_unit_test(test_waves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
