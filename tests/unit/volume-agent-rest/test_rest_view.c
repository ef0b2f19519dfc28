/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off: cmocka wants these first */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
/* clang-format on */
#include <string.h>

#include "volume-agent/rest/metrics.h"
#include "volume-agent/rest/view.h"

#define UUID "0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0"
#define OTHER "11111111-2222-3333-4444-555555555555"

static DroverOperation *attach(const char *id, const char *volume_id, uint64_t sequence,
                               Drover__V1__OperationState state)
{
    Drover__V1__AttachVolume body = DROVER__V1__ATTACH_VOLUME__INIT;
    body.volume_id = (char *)volume_id;
    Drover__V1__VolumeOperation asked = DROVER__V1__VOLUME_OPERATION__INIT;
    asked.operation_id = (char *)id;
    asked.job_id = (char *)"job-1";
    asked.operation_case = DROVER__V1__VOLUME_OPERATION__OPERATION_ATTACH_VOLUME;
    asked.attach_volume = &body;
    size_t len = drover__v1__volume_operation__get_packed_size(&asked);
    g_autofree uint8_t *bytes = g_malloc(len + 1);
    drover__v1__volume_operation__pack(&asked, bytes);
    DroverOperation *operation = drover_operation_new(drover__v1__volume_operation__unpack(NULL, len, bytes));
    operation->sequence = sequence;
    operation->state = state;
    operation->accepted_at_ms = 1000;
    operation->updated_at_ms = 3500;
    return operation;
}

#define ACCEPTED DROVER__V1__OPERATION_STATE__OPERATION_STATE_ACCEPTED
#define DONE DROVER__V1__OPERATION_STATE__OPERATION_STATE_DONE
#define FAILED DROVER__V1__OPERATION_STATE__OPERATION_STATE_FAILED

static void journal(DroverRestView *view, DroverOperation *operation)
{
    g_autofree char *key = g_strconcat("op/", operation->asked->operation_id, NULL);
    g_autoptr(GBytes) value = drover_operation_pack(operation, "appliance", "instance");
    drover_rest_view_seen(view, key, value);
    drover_operation_free(operation);
}

static DroverRestView *view_of(unsigned n)
{
    g_autoptr(GPtrArray) none = g_ptr_array_new();
    DroverRestView *view = drover_rest_view_new(none);
    for (unsigned i = 1; i <= n; i++) {
        g_autofree char *id = g_strdup_printf("op-%u", i);
        journal(view, attach(id, i % 2 ? UUID : OTHER, i, i % 3 ? DONE : FAILED));
    }
    return view;
}

static char *state_of(DroverRestView *view, const char *id)
{
    json_t *json = drover_rest_view_operation(view, id, NULL);
    char *state = g_strdup(json_string_value(json_object_get(json, "state")));
    json_decref(json);
    return state;
}

static void test_life_of_a_submission(void **state)
{
    (void)state;
    DroverRestView *view = view_of(0);
    g_autoptr(DroverOperation) operation = attach("mine", UUID, 1, ACCEPTED);
    assert_int_equal(drover_rest_view_submit(view, operation->asked), DROVER_REST_NEW);
    g_autofree char *submitted = state_of(view, "mine");
    assert_string_equal(submitted, "submitted");
    assert_int_equal(drover_rest_view_submit(view, operation->asked), DROVER_REST_KNOWN);
    g_autoptr(DroverOperation) different = attach("mine", OTHER, 1, ACCEPTED);
    assert_int_equal(drover_rest_view_submit(view, different->asked), DROVER_REST_DIFFERENT);
    drover_rest_view_withdraw(view, "mine");
    assert_null(drover_rest_view_operation(view, "mine", NULL));
    assert_int_equal(drover_rest_view_submit(view, different->asked), DROVER_REST_NEW);

    journal(view, attach("mine", OTHER, 1, ACCEPTED));
    bool ended = true;
    json_decref(drover_rest_view_operation(view, "mine", &ended));
    assert_false(ended);
    json_t *open = drover_rest_view_open_on(view, OTHER);
    assert_int_equal(json_array_size(open), 1);
    json_decref(open);
    journal(view, attach("mine", OTHER, 1, DONE));
    json_decref(drover_rest_view_operation(view, "mine", &ended));
    assert_true(ended);
    assert_int_equal(drover_rest_view_submit(view, different->asked), DROVER_REST_KNOWN); /* for ever */
    open = drover_rest_view_open_on(view, OTHER);
    assert_int_equal(json_array_size(open), 0);
    json_decref(open);
    drover_rest_view_seen(view, "op/mine", NULL); /* tombstone */
    assert_null(drover_rest_view_operation(view, "mine", NULL));
    drover_rest_view_seen(view, "export/" UUID, NULL); /* not its business */
    drover_rest_view_free(view);
}

static unsigned first_of(const json_t *page)
{
    const char *id = json_string_value(json_object_get(json_array_get(page, 0), "id"));
    return id ? (unsigned)g_ascii_strtoull(id + strlen("op-"), NULL, 10) : 0;
}

static void test_pages_miss_and_repeat_nothing(void **state)
{
    (void)state;
    DroverRestView *view = view_of(100);
    const DroverRestFilter all = {0};
    unsigned expected = 100, added = 100;
    uint64_t before = 0;
    do {
        json_t *page = drover_rest_view_list(view, &all, before, 7, &before);
        size_t i;
        json_t *record;
        json_array_foreach(page, i, record)
        {
            g_autofree char *id = g_strdup_printf("op-%u", expected--);
            assert_string_equal(json_string_value(json_object_get(record, "id")), id);
        }
        json_decref(page);
        g_autofree char *fresh =
            g_strdup_printf("op-%u", ++added); /* the list grows at its other end meanwhile */
        journal(view, attach(fresh, UUID, added, ACCEPTED));
    } while (before);
    assert_int_equal(expected, 0);
    drover_rest_view_free(view);
}

static void test_pages_end_where_the_list_does(void **state)
{
    (void)state;
    DroverRestView *view = view_of(14);
    const DroverRestFilter all = {0};
    uint64_t next = 0;
    json_decref(drover_rest_view_list(view, &all, 0, 7, &next));
    assert_int_equal(next, 8);
    json_t *last = drover_rest_view_list(view, &all, next, 7, &next);
    assert_int_equal(json_array_size(last), 7);
    assert_int_equal(next, 0); /* no empty page behind it */
    json_decref(last);
    drover_rest_view_free(view);
}

static void test_filters(void **state)
{
    (void)state;
    DroverRestView *view = view_of(60);
    static const struct {
        DroverRestFilter filter;
        size_t n;
        unsigned first;
    } rows[] = {
        {{.state = "failed"}, 20, 60},
        {{.state = "done"}, 40, 59},
        {{.volume_id = UUID}, 30, 59},
        {{.volume_id = UUID, .state = "failed"}, 10, 57},
        {{.kind = "attach-volume"}, 60, 60},
        {{.kind = "detach-volume"}, 0, 0},
        {{.job_id = "job-1", .vm_id = ""}, 60, 60},
        {{.job_id = "job"}, 0, 0},
        {{.vm_id = UUID}, 0, 0},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        uint64_t next = 0;
        json_t *page = drover_rest_view_list(view, &rows[i].filter, 0, 500, &next);
        assert_int_equal(json_array_size(page), rows[i].n);
        assert_int_equal(first_of(page), rows[i].first);
        assert_int_equal(next, 0);
        json_decref(page);
    }
    drover_rest_view_free(view);
}

static void test_starts_from_the_journal(void **state)
{
    (void)state;
    g_autoptr(GPtrArray) held = g_ptr_array_new();
    g_autoptr(DroverOperation) one = attach("one", UUID, 4, DONE);
    g_ptr_array_add(held, one);
    DroverRestView *view = drover_rest_view_new(held);
    g_autofree char *was = state_of(view, "one");
    assert_string_equal(was, "done");
    drover_rest_view_free(view);
}

/* ---- waiting
 * ----------------------------------------------------------------------------------------------------- */

static bool stopping;
static bool is_stopping(void)
{
    return stopping;
}

static gpointer finish_later(gpointer view)
{
    g_usleep(50000);
    journal(view, attach("slow", UUID, 1, ACCEPTED));
    g_usleep(50000);
    journal(view, attach("slow", UUID, 1, DONE));
    return NULL;
}

static void test_waiting(void **state)
{
    (void)state;
    DroverRestView *view = view_of(0);
    GThread *thread = g_thread_new("finish", finish_later, view);
    drover_rest_view_wait(view, "slow", true, 30000, is_stopping);
    bool ended = false;
    json_decref(drover_rest_view_operation(view, "slow", &ended));
    assert_true(ended);
    g_thread_join(thread);
    drover_rest_view_wait(view, "unknown", true, 20, is_stopping); /* returns, too */
    stopping = true;
    drover_rest_view_wait(view, "unknown", true, 600000, is_stopping);
    stopping = false;
    drover_rest_view_free(view);
}

/* ---- metrics
 * ----------------------------------------------------------------------------------------------------- */

static void count(void *data, const char *kind, const char *in_state, uint64_t n)
{
    g_string_append_printf(data, "%s %s %u\n", kind, in_state, (unsigned)n);
}

static void on_end(void *data, const char *kind, const char *in_state, int64_t took_ms)
{
    g_string_append_printf(data, "%s %s after %d\n", kind, in_state, (int)took_ms);
}

static void test_counts(void **state)
{
    (void)state;
    DroverRestView *view = view_of(3);
    g_autoptr(DroverOperation) waiting = attach("waiting", UUID, 0, ACCEPTED);
    drover_rest_view_submit(view, waiting->asked);
    g_autoptr(GString) out = g_string_new(NULL);
    drover_rest_view_count(view, count, out);
    assert_string_equal(out->str,
                        "attach-volume submitted 1\nattach-volume done 2\nattach-volume failed 1\n");
    g_string_truncate(out, 0);
    drover_rest_view_on_end(view, on_end, out);
    journal(view, attach("waiting", UUID, 4, ACCEPTED));
    journal(view, attach("waiting", UUID, 4, FAILED));
    assert_string_equal(out->str, "attach-volume failed after 2500\n");
    drover_rest_view_free(view);
}

static void test_metrics_text(void **state)
{
    (void)state;
    DroverRestMetrics *metrics = drover_rest_metrics_new();
    g_autofree char *labels = drover_rest_labels("command", "a\"b\\c\nd", "code", "530", NULL);
    assert_string_equal(labels, "command=\"a\\\"b\\\\c\\nd\",code=\"530\"");
    drover_rest_metrics_add(metrics, "drover_agent_cloudstack_errors_total", labels, 2);
    drover_rest_metrics_add(metrics, "drover_agent_cloudstack_errors_total", labels, 1);
    drover_rest_metrics_observe(metrics, "drover_agent_operation_seconds", "kind=\"x\"", 0.02);
    drover_rest_metrics_observe(metrics, "drover_agent_operation_seconds", "kind=\"x\"", 7);
    drover_rest_metrics_observe(metrics, "drover_agent_operation_seconds", "kind=\"x\"", 7000);
    g_autoptr(GString) out = g_string_new(NULL);
    drover_rest_metrics_write(metrics, out);
    assert_non_null(strstr(out->str, "_errors_total{command=\"a\\\"b\\\\c\\nd\",code=\"530\"} 3\n"));
    assert_non_null(strstr(out->str, "seconds_bucket{kind=\"x\",le=\"0.01\"} 0\n"));
    assert_non_null(strstr(out->str, "seconds_bucket{kind=\"x\",le=\"0.025\"} 1\n"));
    assert_non_null(strstr(out->str, "seconds_bucket{kind=\"x\",le=\"10\"} 2\n"));
    assert_non_null(strstr(out->str, "seconds_bucket{kind=\"x\",le=\"+Inf\"} 3\n"));
    assert_non_null(strstr(out->str, "seconds_count{kind=\"x\"} 3\n"));
    assert_non_null(strstr(out->str, "seconds_sum{kind=\"x\"} 7007.02\n"));
    drover_rest_metrics_free(metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life_of_a_submission),
        cmocka_unit_test(test_pages_miss_and_repeat_nothing),
        cmocka_unit_test(test_pages_end_where_the_list_does),
        cmocka_unit_test(test_filters),
        cmocka_unit_test(test_starts_from_the_journal),
        cmocka_unit_test(test_waiting),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_metrics_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
