/* SPDX-License-Identifier: Apache-2.0 */
/* Who may start on a worker, and how a running task learns that it must stop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/base/error.h"
#include "worker/running.h"

static int changes;

static void changed(void *user_data)
{
    (void)user_data;
    changes++;
}

static DroverTask *new_task(DroverTaskKind kind, const char *id, uint32_t attempt)
{
    DroverTask *task = g_new0(DroverTask, 1);
    task->kind = kind;
    task->task_id = g_strdup(id);
    task->job_id = g_strdup("job");
    task->attempt = attempt;
    return task;
}

static DroverRunning *started(DroverRunningTable *table, DroverTaskKind kind, const char *id, uint32_t attempt)
{
    DroverRunning *running = NULL;
    assert_int_equal(drover_running_start(table, new_task(kind, id, attempt), &running, NULL), DROVER_START_OK);
    return running;
}

static void refused(DroverRunningTable *table, DroverTaskKind kind, const char *id, uint32_t attempt, DroverStart why)
{
    DroverRunning *running = NULL;
    g_autoptr(DroverTask) kept = NULL;
    assert_int_equal(drover_running_start(table, new_task(kind, id, attempt), &running, &kept), why);
    assert_null(running);
    assert_string_equal(kept->task_id, id);
}

static void test_slots(void **state)
{
    (void)state;
    DroverRunningTable *table = drover_running_table_new(2, 1, changed, NULL);
    DroverRunning *a = started(table, DROVER_TASK_COPY, "a", 1);
    DroverRunning *b = started(table, DROVER_TASK_COPY, "b", 1);
    refused(table, DROVER_TASK_COPY, "c", 1, DROVER_START_NO_SLOT);
    refused(table, DROVER_TASK_COPY, "a", 1, DROVER_START_DUPLICATE); /* said before "no slot" */
    DroverRunning *i = started(table, DROVER_TASK_INSPECT, "i", 1);
    refused(table, DROVER_TASK_INSPECT, "j", 1, DROVER_START_NO_SLOT);
    changes = 0;
    drover_running_end(table, b);
    assert_int_equal(changes, 1);
    DroverRunning *c = started(table, DROVER_TASK_COPY, "c", 1);
    assert_false(drover_running_wait_empty(table, g_get_monotonic_time()));
    drover_running_end(table, a);
    drover_running_end(table, c);
    drover_running_end(table, i);
    assert_true(drover_running_wait_empty(table, g_get_monotonic_time()));
    drover_running_table_free(table);
}

static void test_attempts(void **state)
{
    (void)state;
    DroverRunningTable *table = drover_running_table_new(2, 0, changed, NULL);
    DroverRunning *first = started(table, DROVER_TASK_COPY, "a", 3);
    refused(table, DROVER_TASK_COPY, "a", 2, DROVER_START_STALE);
    assert_int_equal(drover_running_verdict(first), DROVER_VERDICT_RUN);
    DroverRunning *second = started(table, DROVER_TASK_COPY, "a", 4);
    assert_int_equal(drover_running_verdict(first), DROVER_VERDICT_REVOKED);
    assert_true(g_cancellable_is_cancelled(drover_running_cancellable(first)));
    assert_false(g_cancellable_is_cancelled(drover_running_cancellable(second)));
    drover_running_end(table, first);
    drover_running_end(table, second);
    drover_running_table_free(table);
}

static void test_verdicts(void **state)
{
    (void)state;
    DroverRunningTable *table = drover_running_table_new(1, 1, changed, NULL);
    DroverRunning *copy = started(table, DROVER_TASK_COPY, "a", 1);
    DroverRunning *inspect = started(table, DROVER_TASK_INSPECT, "i", 1);
    drover_running_close(table);
    refused(table, DROVER_TASK_COPY, "b", 1, DROVER_START_CLOSED);
    /* A copy waits for its engine to stop at a checkpoint, an inspection has none. */
    assert_false(g_cancellable_is_cancelled(drover_running_cancellable(copy)));
    assert_true(g_cancellable_is_cancelled(drover_running_cancellable(inspect)));
    drover_running_revoke_all(table);
    assert_true(g_cancellable_is_cancelled(drover_running_cancellable(copy)));
    drover_running_set_verdict(copy, DROVER_VERDICT_RUN);
    assert_int_equal(drover_running_verdict(copy), DROVER_VERDICT_REVOKED);
    drover_running_end(table, copy);
    drover_running_end(table, inspect);
    drover_running_table_free(table);
}

/* A verdict that comes before the engine is there holds for it: a copy to nowhere ends at once, and not after its
 * time for connecting. */
static void test_verdict_before_engine(void **state)
{
    (void)state;
    for (int release = 0; release < 2; release++) {
        DroverRunningTable *table = drover_running_table_new(1, 0, changed, NULL);
        DroverRunning *running = started(table, DROVER_TASK_COPY, "a", 1);
        drover_running_set_verdict(running, release ? DROVER_VERDICT_RELEASE : DROVER_VERDICT_REVOKED);
        DroverCopyParams params = {.source = {.socket_path = "/nonexistent/a"},
                                   .target = {.socket_path = "/nonexistent/b"},
                                   .connect_deadline_ms = 60000};
        g_autoptr(DroverCopy) engine = drover_copy_new(&params, NULL);
        assert_non_null(engine);
        drover_running_set_engine(running, engine);
        DroverCopyResult result;
        g_autoptr(GError) error = NULL;
        int64_t began = g_get_monotonic_time();
        assert_false(drover_copy_run(engine, &result, &error));
        drover_running_set_engine(running, NULL);
        assert_true(g_get_monotonic_time() - began < 20 * G_TIME_SPAN_SECOND);
        assert_int_equal(error->code, DROVER_ERROR_RETRYABLE);
        drover_running_end(table, running);
        drover_running_table_free(table);
    }
}

static gpointer confirm_later(gpointer running)
{
    g_usleep(20 * 1000);
    drover_running_set_confirmed(running);
    return NULL;
}

static gpointer revoke_later(gpointer running)
{
    g_usleep(20 * 1000);
    drover_running_set_verdict(running, DROVER_VERDICT_REVOKED);
    return NULL;
}

/* What changes something outside waits for the leader's word. */
static void test_confirmation(void **state)
{
    (void)state;
    DroverRunningTable *table = drover_running_table_new(1, 3, changed, NULL);
    g_autoptr(GError) error = NULL;
    DroverRunning *a = started(table, DROVER_TASK_SOURCE_VM, "a", 1);
    GThread *thread = g_thread_new("confirm", confirm_later, a);
    assert_true(drover_running_wait_confirmed(a, &error));
    g_thread_join(thread);
    DroverRunning *b = started(table, DROVER_TASK_SOURCE_VM, "b", 1);
    thread = g_thread_new("revoke", revoke_later, b);
    assert_false(drover_running_wait_confirmed(b, &error));
    assert_int_equal(drover_error_class(error), DROVER_ERROR_FENCED);
    g_thread_join(thread);
    g_clear_error(&error);
    DroverRunning *c = started(table, DROVER_TASK_SOURCE_VM, "c", 1); /* of the slots of inspections */
    refused(table, DROVER_TASK_INSPECT, "d", 1, DROVER_START_NO_SLOT);
    assert_true(drover_running_may_go_on(c, &error));
    drover_running_set_verdict(c, DROVER_VERDICT_RELEASE);
    assert_false(drover_running_may_go_on(c, &error));
    assert_int_equal(drover_error_class(error), DROVER_ERROR_RETRYABLE);
    drover_running_end(table, a);
    drover_running_end(table, b);
    drover_running_end(table, c);
    drover_running_table_free(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_confirmation), cmocka_unit_test(test_slots),
        cmocka_unit_test(test_attempts),
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_verdict_before_engine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
