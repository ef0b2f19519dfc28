/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "core/task/task.h"

typedef struct {
    DroverJob *job;
    DroverTask *task;
    DroverFleet *fleet;
    DroverLimits limits;
    DroverAt at;
} Case;

static int setup(void **state)
{
    Case *c = g_new0(Case, 1);
    c->job = drover_job_new("j");
    c->task = drover_disk_add_task(drover_job_add_disk(c->job, "d"), "t", DROVER_TASK_COPY);
    c->fleet = drover_fleet_new();
    c->limits = DROVER_LIMITS_DEFAULT;
    c->at = (DroverAt){.now_ms = 1000000, .lease_ms = 5000};
    *state = c;
    return 0;
}

static int teardown(void **state)
{
    Case *c = *state;
    drover_job_free(c->job);
    drover_fleet_free(c->fleet);
    g_free(c);
    return 0;
}

static void beat(Case *c, const char *instance, int64_t started_ms, uint64_t sequence, bool stopped)
{
    DroverProcess *process = drover_process_new("w", instance, DROVER_ROLE_WORKER, "s");
    process->started_at_ms = started_ms;
    process->sequence = sequence;
    process->stopped = stopped;
    drover_fleet_heartbeat(c->fleet, process, 0, &c->at);
}

static void claim(Case *c)
{
    drover_task_assign(c->task, "w", 0, &c->at);
    assert_int_equal(drover_task_claimed(c->task, c->task->attempt, "w", "w1", &c->at), DROVER_TASK_ACCEPTED);
}

static void advance(Case *c, int64_t ms)
{
    c->at.now_ms += ms;
    c->at.lease_ms += ms;
}

static int check(Case *c)
{
    return drover_task_check(c->task, c->fleet, &c->limits, &c->at);
}

static void test_one_executor(void **state)
{
    Case *c = *state;
    DroverFault fault = {DROVER_ERROR_RETRYABLE, NULL, NULL};
    drover_task_assign(c->task, "w", 3, &c->at);
    assert_int_equal(drover_task_claimed(c->task, 0, "w", "w1", &c->at), DROVER_TASK_STALE);
    assert_int_equal(drover_task_claimed(c->task, 1, "other", "o1", &c->at), DROVER_TASK_ACCEPTED);
    assert_string_equal(c->task->owner_process, "other"); /* the partition had moved */
    assert_int_equal(drover_task_claimed(c->task, 1, "w", "w1", &c->at), DROVER_TASK_STALE);
    assert_int_equal(drover_task_finished(c->task, 1, "w1", &c->at), DROVER_TASK_STALE);
    assert_int_equal(drover_task_failed(c->task, 1, "w1", &fault, &c->limits, &c->at), DROVER_TASK_STALE);
    assert_int_equal(drover_task_released(c->task, 2, "o1", &c->at), DROVER_TASK_STALE);
    assert_int_equal(drover_task_finished(c->task, 1, "o1", &c->at), DROVER_TASK_ACCEPTED);
    assert_int_equal(c->task->status, DROVER_TASK_COPIED);
    assert_int_equal(drover_task_finished(c->task, 1, "o1", &c->at), DROVER_TASK_STALE);
}

static void test_claim_timeout(void **state)
{
    Case *c = *state;
    drover_task_assign(c->task, "w", 0, &c->at);
    advance(c, 14999);
    assert_int_equal(check(c), DROVER_TASK_STALE);
    advance(c, 1);
    assert_int_equal(check(c), DROVER_TASK_AGAIN);
    assert_int_equal(c->task->failures, 0);
    assert_int_equal(c->task->status, DROVER_TASK_READY);
    assert_int_equal(drover_task_claimed(c->task, 1, "w", "w1", &c->at), DROVER_TASK_STALE); /* too late */
    drover_task_assign(c->task, "w", 0, &c->at);
    assert_int_equal(c->task->attempt, 2);
}

static void test_lease(void **state)
{
    Case *c = *state;
    beat(c, "w1", 1, 1, false);
    claim(c);
    advance(c, 59999);
    assert_int_equal(check(c), DROVER_TASK_STALE);
    drover_task_seen(c->task, 1, "w1", &c->at);
    advance(c, 59999);
    assert_int_equal(check(c), DROVER_TASK_STALE);
    drover_task_seen(c->task, 2, "w1", &c->at); /* another attempt proves nothing */
    advance(c, 1);
    assert_int_equal(check(c), DROVER_TASK_AGAIN);
    assert_int_equal(c->task->failures, 1);
    assert_true(c->task->not_before_at_ms > c->at.now_ms);
}

static void test_new_instance(void **state)
{
    Case *c = *state;
    claim(c);
    assert_int_equal(check(c), DROVER_TASK_STALE); /* no heartbeat yet: the lease counts */
    beat(c, "w1", 10, 5, false);
    assert_int_equal(check(c), DROVER_TASK_STALE);
    beat(c, "w0", 5, 9, false); /* of an older life */
    assert_int_equal(check(c), DROVER_TASK_STALE);
    beat(c, "w2", 20, 1, false);
    assert_int_equal(check(c), DROVER_TASK_AGAIN);
    assert_int_equal(c->task->failures, 1);
}

static void test_stopped_is_not_counted(void **state)
{
    Case *c = *state;
    claim(c);
    beat(c, "w1", 10, 5, true);
    assert_int_equal(check(c), DROVER_TASK_AGAIN);
    assert_int_equal(c->task->failures, 0);
}

static void test_failures_are_bounded(void **state)
{
    Case *c = *state;
    DroverFault fault = {DROVER_ERROR_RETRYABLE, (char *)"", (char *)"reset"};
    for (uint32_t i = 1; i <= 5; i++) {
        claim(c);
        assert_int_equal(drover_task_released(c->task, c->task->attempt, "w1", &c->at), DROVER_TASK_AGAIN);
        claim(c);
        assert_int_equal(drover_task_failed(c->task, c->task->attempt, "w1", &fault, &c->limits, &c->at),
                         i < 5 ? DROVER_TASK_AGAIN : DROVER_TASK_GIVEN_UP);
        assert_int_equal(c->task->failures, i);
    }
    assert_int_equal(c->task->status, DROVER_TASK_FAILED);
    drover_task_cancel(c->task, &c->at);
    assert_int_equal(c->task->status, DROVER_TASK_FAILED);
}

static void test_permanent(void **state)
{
    Case *c = *state;
    DroverFault fault = {DROVER_ERROR_PERMANENT, (char *)"DRV-X", (char *)"DRV-X: no"};
    claim(c);
    assert_int_equal(drover_task_failed(c->task, 1, "w1", &fault, &c->limits, &c->at), DROVER_TASK_GIVEN_UP);
    assert_string_equal(c->task->error.code, "DRV-X");
}

static void test_revoke_fences(void **state)
{
    Case *c = *state;
    claim(c);
    drover_task_revoke(c->task, &c->at);
    assert_int_equal(drover_task_finished(c->task, 1, "w1", &c->at), DROVER_TASK_STALE);
    claim(c);
    assert_int_equal(c->task->attempt, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_executor, setup, teardown),
        cmocka_unit_test_setup_teardown(test_claim_timeout, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lease, setup, teardown),
        cmocka_unit_test_setup_teardown(test_new_instance, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stopped_is_not_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failures_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_permanent, setup, teardown),
        cmocka_unit_test_setup_teardown(test_revoke_fences, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
