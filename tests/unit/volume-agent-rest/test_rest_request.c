/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off: cmocka wants these first */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
/* clang-format on */
#include <string.h>

#include "lib/base/error.h"
#include "volume-agent/rest/page.h"
#include "volume-agent/rest/record.h"
#include "volume-agent/rest/request.h"

#define UUID "0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0"
#define OTHER "11111111-2222-3333-4444-555555555555"

/* ---- bodies
 * ------------------------------------------------------------------------------------------------------ */

static const DroverRestField table[] = {
    {"name", DROVER_FIELD_TEXT, .required = true, .limit = 5},
    {"id", DROVER_FIELD_UUID},
    {"job", DROVER_FIELD_NAME},
    {"n", DROVER_FIELD_NUMBER, .minimum = 1, .limit = 10},
    {"yes", DROVER_FIELD_FLAG},
    {0},
};

/* FIELD: what details.field must name; NULL: any. */
static void expect_refused(const char *body, const char *field)
{
    g_auto(DroverRestProblem) problem = {0};
    assert_null(drover_rest_parse_body(body, strlen(body), table, &problem));
    assert_int_equal(problem.status, 400);
    if (field) {
        assert_string_equal(json_string_value(json_object_get(problem.details, "field")), field);
        assert_non_null(strstr(problem.message, field));
    }
}

static void test_bodies(void **state)
{
    (void)state;
    g_auto(DroverRestProblem) problem = {0};
    const char *all = "{\"name\": \"\xc3\xa4\xc3\xb6\xc3\xbc\xc3\x9f!\", \"id\": \"" UUID
                      "\", \"job\": \"j-1\", \"n\": 10, \"yes\": true}";
    json_t *body = drover_rest_parse_body(all, strlen(all), table, &problem);
    assert_non_null(body);
    assert_string_equal(drover_rest_text(body, "job"), "j-1");
    assert_int_equal(drover_rest_number(body, "n"), 10);
    assert_true(drover_rest_flag(body, "yes"));
    assert_string_equal(drover_rest_text(body, "other"), "");
    assert_int_equal(drover_rest_number(body, "other"), 0);
    json_decref(body);

    expect_refused("{\"name\": \"x\", \"nmae\": 1}", "nmae");
    expect_refused("{\"name\": \"x\", \"Name\": \"x\"}", "Name");
    expect_refused("{}", "name");
    expect_refused("", "name");
    expect_refused("{\"name\": \"\"}", "name");
    expect_refused("{\"name\": \"123456\"}", "name");
    expect_refused("{\"name\": \"a\\nb\"}", "name");
    expect_refused("{\"name\": null}", "name");
    expect_refused("{\"name\": 7}", "name");
    expect_refused("{\"name\": \"x\", \"id\": \"" UUID "0\"}", "id");
    expect_refused("{\"name\": \"x\", \"job\": \"a/b\"}", "job");
    expect_refused("{\"name\": \"x\", \"job\": \"..\"}", "job");
    expect_refused("{\"name\": \"x\", \"n\": 0}", "n");
    expect_refused("{\"name\": \"x\", \"n\": 11}", "n");
    expect_refused("{\"name\": \"x\", \"n\": 1.5}", "n");
    expect_refused("{\"name\": \"x\", \"n\": \"1\"}", "n");
    expect_refused("{\"name\": \"x\", \"yes\": 1}", "yes");
    expect_refused("{\"name\": \"a\", \"name\": \"b\"}", NULL); /* which one would count? */
    expect_refused("{\"name\": \"a\\u0000b\"}", NULL);
    expect_refused("{\"name\": \"\xff\"}", NULL);
    expect_refused("{\"name\": \"x\"} x", NULL);
    expect_refused("{\"name\": \"x\",}", NULL);
    expect_refused("[]", NULL);
    expect_refused("\"name\"", NULL);
    expect_refused("{\"n\": 99999999999999999999}", NULL);
}

/* A valid body with bytes changed, cut and put in: refused with 400, or valid after all; never anything else.
 */
static void test_arbitrary_bodies(void **state)
{
    (void)state;
    static const char good[] =
        "{\"name\": \"abc\", \"id\": \"" UUID "\", \"job\": \"j\", \"n\": 5, \"yes\": false}";
    GRand *random = g_rand_new_with_seed(7);
    unsigned accepted = 0;
    for (int i = 0; i < 50000; i++) {
        g_autoptr(GString) body = g_string_new(good);
        for (int n = g_rand_int_range(random, 0, 4); n > 0 && body->len > 0; n--) {
            gssize at = g_rand_int_range(random, 0, (gint32)body->len), cut = g_rand_int_range(random, 1, 20);
            switch (g_rand_int_range(random, 0, 3)) {
            case 0:
                body->str[at] = (char)g_rand_int_range(random, 0, 256);
                break;
            case 1:
                g_string_erase(body, at, MIN(cut, (gssize)body->len - at));
                break;
            default:
                g_string_insert_c(body, at, "{}[]\",:\\0-e."[g_rand_int_range(random, 0, 13)]);
            }
        }
        g_auto(DroverRestProblem) problem = {0};
        json_t *parsed = drover_rest_parse_body(body->str, body->len, table, &problem);
        assert_int_equal(problem.status, parsed ? 0 : 400);
        assert_true(parsed || g_utf8_validate(problem.message, -1, NULL));
        accepted += parsed != NULL;
        json_decref(parsed);
    }
    assert_in_range(accepted, 10000, 49000);
    g_rand_free(random);
}

static void test_deep_bodies_end(void **state)
{
    (void)state;
    g_auto(DroverRestProblem) problem = {0};
    g_autofree char *deep = g_strnfill(60000, '[');
    assert_null(drover_rest_parse_body(deep, strlen(deep), table, &problem));
    assert_int_equal(problem.status, 400);
}

/* ---- operations
 * -------------------------------------------------------------------------------------------------- */

/* A request on ROUTE becomes an operation, to be freed; NULL when it is refused. */
static Drover__V1__VolumeOperation *draft(DroverRestRouteId route, const char *parameter, const char *text,
                                          const char *volume_id, const char *vm_id)
{
    g_auto(DroverRestProblem) problem = {0};
    json_t *body = drover_rest_parse_body(text, strlen(text), drover_rest_fields_of(route), &problem);
    if (!body)
        fail_msg("%s", problem.message);
    const DroverRestRequest request = {.route = &drover_rest_routes[route],
                                       .parameter = parameter,
                                       .operation_id = "op-1",
                                       .agent = "appliance",
                                       .caller = "ops",
                                       .now_ms = 1234,
                                       .body = body,
                                       .volume_id = volume_id,
                                       .vm_id = vm_id,
                                       .next_generation = 7};
    Drover__V1__VolumeOperation *operation = drover_rest_operation_of(&request, &problem);
    json_decref(body);
    assert_int_equal(problem.status, operation ? 0 : 400);
    if (operation) {
        assert_string_equal(operation->operation_id, "op-1");
        assert_string_equal(operation->requested_by, "rest/ops");
        assert_int_equal(operation->requested_at_ms, 1234);
        assert_true(*operation->job_id);
    }
    return operation;
}

static void test_every_changing_route_becomes_an_operation(void **state)
{
    (void)state;
    static const struct {
        DroverRestRouteId route;
        const char *parameter, *body, *volume_id, *kind, *on_volume, *on_vm;
    } rows[] = {
        {DROVER_ROUTE_DELETE_VOLUME, UUID, "", "", "delete-volume", UUID, ""},
        {DROVER_ROUTE_ATTACH_VOLUME, UUID, "{}", "", "attach-volume", UUID, ""},
        {DROVER_ROUTE_ATTACH_VOLUME, UUID, "{\"vm_id\": \"" OTHER "\", \"device_id\": 2}", "", "attach-to-vm",
         UUID, OTHER},
        {DROVER_ROUTE_ATTACH_ROOT, UUID, "{\"vm_id\": \"" OTHER "\"}", "", "swap-root", UUID, OTHER},
        {DROVER_ROUTE_DETACH_VOLUME, UUID, "{\"job_id\": \"j\"}", "", "detach-volume", UUID, ""},
        {DROVER_ROUTE_CLEANUP_TEST_FAILOVER, NULL, "{\"vm_id\": \"" OTHER "\"}", "", "cleanup-test-failover",
         "", OTHER},
        {DROVER_ROUTE_TRACK_SNAPSHOT, NULL, "{\"snapshot_id\": \"" OTHER "\", \"volume_id\": \"" UUID "\"}",
         "", "track-snapshot", UUID, ""},
        {DROVER_ROUTE_RESIZE_VOLUME, UUID, "{\"size_bytes\": 5}", "", "resize-volume", UUID, ""},
        {DROVER_ROUTE_CREATE_SNAPSHOT, NULL, "{\"volume_id\": \"" UUID "\", \"vm_id\": \"" OTHER "\"}", "", "create-snapshot",
         UUID, ""},
        {DROVER_ROUTE_REVERT_SNAPSHOT, OTHER, "", "", "revert-snapshot", "", ""},
        {DROVER_ROUTE_DELETE_SNAPSHOT, OTHER, "", "", "delete-snapshot", "", ""},
        {DROVER_ROUTE_UPDATE_SNAPSHOT, OTHER, "{\"status\": \"used\"}", "", "update-snapshot", "", ""},
        {DROVER_ROUTE_CLEAR_SNAPSHOT, OTHER, "", "", "clear-snapshots", "", ""},
        {DROVER_ROUTE_CLEAR_SNAPSHOTS, NULL, "", UUID, "clear-snapshots", UUID, ""},
        {DROVER_ROUTE_CREATE_EXPORT, NULL, "{\"volume_id\": \"" UUID "\"}", "", "open-export", UUID, ""},
        {DROVER_ROUTE_DELETE_EXPORT, UUID, "", "", "remove-export", UUID, ""},
        {DROVER_ROUTE_CLEAN_EXPORTS, NULL, "", "", "remove-orphan-exports", "", ""},
        {DROVER_ROUTE_FORCE_SYNC, NULL, "{\"repair\": true}", "", "force-sync", "", ""},
    };
    bool seen[DROVER_N_ROUTES] = {[DROVER_ROUTE_CREATE_VOLUME] = true}; /* below */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        Drover__V1__VolumeOperation *asked =
            draft(rows[i].route, rows[i].parameter, rows[i].body, rows[i].volume_id, "");
        assert_non_null(asked);
        g_autoptr(DroverOperation) operation = drover_operation_new(asked);
        assert_string_equal(drover_operation_kind(operation), rows[i].kind);
        assert_string_equal(drover_operation_volume_id(operation), rows[i].on_volume);
        assert_string_equal(drover_operation_vm_id(operation), rows[i].on_vm);
        seen[rows[i].route] = true;
    }
    for (int i = 0; i < DROVER_N_ROUTES; i++)
        assert_int_equal(seen[i], drover_rest_routes[i].changes);
}

static void test_create_names_its_volume(void **state)
{
    (void)state;
    const char *body = "{\"name\": \"data\", \"size_bytes\": 5, \"disk_offering\": \"fast\", \"zone\": "
                       "\"z\", \"job_id\": \"j\", \"disk_id\": \"d\"}";
    Drover__V1__VolumeOperation *a = draft(DROVER_ROUTE_CREATE_VOLUME, NULL, body, "", "");
    Drover__V1__VolumeOperation *b = draft(DROVER_ROUTE_CREATE_VOLUME, NULL, body, "", "");
    assert_string_equal(a->create_volume->name, "data");
    assert_int_equal(a->create_volume->size_bytes, 5);
    assert_string_equal(a->create_volume->disk_offering, "fast");
    assert_string_equal(a->job_id, "j");
    assert_string_equal(a->disk_id, "d");
    assert_true(drover_rest_is_uuid(a->create_volume->custom_id));
    assert_string_equal(a->create_volume->custom_id,
                        b->create_volume->custom_id); /* asked twice, made once */
    b->requested_at_ms = 99;
    assert_true(drover_rest_same_operation(a, b));
    b->create_volume->size_bytes = 6;
    assert_false(drover_rest_same_operation(a, b));
    drover__v1__volume_operation__free_unpacked(a, NULL);
    drover__v1__volume_operation__free_unpacked(b, NULL);
}

static void test_generation(void **state)
{
    (void)state;
    Drover__V1__VolumeOperation *next =
        draft(DROVER_ROUTE_CREATE_EXPORT, NULL, "{\"volume_id\": \"" UUID "\"}", "", "");
    Drover__V1__VolumeOperation *given =
        draft(DROVER_ROUTE_CREATE_EXPORT, NULL, "{\"volume_id\": \"" UUID "\", \"generation\": 3}", "", "");
    assert_int_equal(next->open_export->generation, 7);
    assert_int_equal(given->open_export->generation, 3);
    drover__v1__volume_operation__free_unpacked(next, NULL);
    drover__v1__volume_operation__free_unpacked(given, NULL);
}

static void test_what_goes_not_together(void **state)
{
    (void)state;
    assert_null(draft(DROVER_ROUTE_ATTACH_VOLUME, UUID, "{\"vm_id\": \"" OTHER "\"}", "", ""));
    assert_null(draft(DROVER_ROUTE_ATTACH_VOLUME, UUID, "{\"device_id\": 2}", "", ""));
    assert_null(draft(DROVER_ROUTE_ATTACH_VOLUME, UUID,
                      "{\"vm_id\": \"" OTHER "\", \"device_id\": 2, \"minimum_size_bytes\": 1}", "", ""));
    assert_null(draft(DROVER_ROUTE_UPDATE_SNAPSHOT, UUID, "{}", "", ""));
    assert_null(draft(DROVER_ROUTE_CLEAR_SNAPSHOTS, NULL, "", "", ""));
    assert_null(draft(DROVER_ROUTE_CLEAR_SNAPSHOTS, NULL, "", UUID, OTHER));
}

/* ---- records
 * ----------------------------------------------------------------------------------------------------- */

static const char *text(const json_t *json, const char *name)
{
    return json_string_value(json_object_get(json, name));
}

static void test_records(void **state)
{
    (void)state;
    g_autoptr(DroverOperation) operation = drover_operation_new(
        draft(DROVER_ROUTE_CREATE_EXPORT, NULL, "{\"volume_id\": \"" UUID "\"}", "", ""));
    json_t *json = drover_rest_operation_json(operation, true);
    assert_string_equal(text(json, "state"), "submitted");
    assert_true(json_is_null(json_object_get(json, "result")));
    assert_true(json_is_null(json_object_get(json, "accepted_at")));
    json_decref(json);

    operation->accepted_at_ms = 1000;
    operation->updated_at_ms = 2000;
    operation->state = DROVER__V1__OPERATION_STATE__OPERATION_STATE_WAITING;
    json = drover_rest_operation_json(operation, false);
    assert_string_equal(text(json, "state"), "running");
    assert_string_equal(text(json, "accepted_at"), "1970-01-01T00:00:01.000Z");
    assert_true(json_is_null(json_object_get(json, "ended_at")));
    json_decref(json);

    drover_set_text(&operation->result.token, "0123456789abcdef0123456789abcdef");
    drover_set_text(&operation->result.export_name, "migration-vol-" UUID);
    drover_set_text(&operation->result.report, "{\"differences\": []}");
    operation->state = DROVER__V1__OPERATION_STATE__OPERATION_STATE_DONE;
    json = drover_rest_operation_json(operation, false);
    assert_string_equal(text(json, "state"), "done");
    assert_string_equal(text(json_object_get(json, "result"), "export_name"), "migration-vol-" UUID);
    assert_true(json_is_array(
        json_object_get(json_object_get(json_object_get(json, "result"), "report"), "differences")));
    assert_string_equal(text(json_object_get(json, "links"), "self"), "/api/v1/operations/op-1");
    char *dumped = json_dumps(json, 0);
    assert_null(strstr(dumped, "0123456789abcdef"));
    free(dumped);
    json_decref(json);

    operation->state = DROVER__V1__OPERATION_STATE__OPERATION_STATE_FAILED;
    operation->error_class = DROVER_ERROR_PERMANENT;
    drover_set_text(&operation->error_message,
                    "DRV-X: no migration-vol-" UUID "@3.0123456789abcdef0123456789abcdef here");
    json = drover_rest_operation_json(operation, false);
    const json_t *error = json_object_get(json, "error");
    assert_string_equal(text(error, "code"), "DRV-X");
    assert_string_equal(text(error, "class"), "permanent");
    assert_null(strstr(text(error, "message"), "0123456789abcdef"));
    json_decref(json);
}

static void test_links_are_escaped(void **state)
{
    (void)state;
    Drover__V1__VolumeOperation *asked = draft(DROVER_ROUTE_DELETE_VOLUME, UUID, "", "", "");
    free(asked->operation_id);
    asked->operation_id = strdup("job/disk/kind/1");
    g_autoptr(DroverOperation) operation = drover_operation_new(asked);
    json_t *json = drover_rest_operation_json(operation, false);
    assert_string_equal(text(json_object_get(json, "links"), "self"),
                        "/api/v1/operations/job%2Fdisk%2Fkind%2F1");
    json_decref(json);
}

static void test_problems(void **state)
{
    (void)state;
    static const struct {
        DroverErrorClass class;
        const char *message;
        unsigned status;
        const char *code;
    } rows[] = {
        {DROVER_ERROR_RETRYABLE, "DRV-CLOUDSTACK-DOWN: gone", 503, "DRV-CLOUDSTACK-DOWN"},
        {DROVER_ERROR_RETRYABLE, "busy", 503, "DRV-REST-UNAVAILABLE"},
        {DROVER_ERROR_PERMANENT, "CloudStack listVolumes: no (401)", 502, "DRV-REST-REFUSED"},
        {DROVER_ERROR_FENCED, "too old", 409, "DRV-FENCED"},
        {DROVER_ERROR_PERMANENT, "DRV-VOLUME-MISSING: none", 404, "DRV-VOLUME-MISSING"},
        {DROVER_ERROR_PERMANENT, "DRV-DEVICE-BUSY: held", 409, "DRV-DEVICE-BUSY"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(DroverRestProblem) problem = {0};
        g_autoptr(GError) error = NULL;
        drover_fail(&error, rows[i].class, "%s", rows[i].message);
        assert_false(drover_rest_problem_from(&problem, error));
        assert_int_equal(problem.status, rows[i].status);
        assert_string_equal(problem.code, rows[i].code);
        assert_int_equal(problem.retry_after_s > 0, rows[i].status == 503);
        g_auto(DroverRestReply) reply = {0};
        drover_rest_reply_problem(&reply, &problem, "req-1");
        json_t *json = json_loads(reply.body, 0, NULL);
        assert_int_equal(json_object_size(json), 4);
        assert_string_equal(text(json, "request_id"), "req-1");
        assert_true(json_is_object(json_object_get(json, "details")));
        json_decref(json);
    }
    g_auto(DroverRestProblem) problem = {0};
    drover_rest_problem(&problem, 404, "DRV-REST-PATH", "There is nothing at %s", "/\xff\xfe");
    assert_true(g_utf8_validate(problem.message, -1, NULL));
}

static void test_cursors(void **state)
{
    (void)state;
    const uint64_t sequences[] = {0, 1, 255, 1u << 20, UINT64_MAX};
    for (size_t i = 0; i < G_N_ELEMENTS(sequences); i++) {
        g_autofree char *cursor = drover_rest_cursor(sequences[i]);
        uint64_t back = 1234;
        assert_true(drover_rest_cursor_read(cursor, &back));
        assert_int_equal(back, sequences[i]);
    }
    const char *const wrong[] = {"",
                                 "o",
                                 "o1",
                                 "0000000000000001o",
                                 "p0000000000000001",
                                 "o000000000000000g",
                                 "o00000000000000001",
                                 "o000000000000000A",
                                 "o-00000000000001"};
    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
        uint64_t unused = 0;
        assert_false(drover_rest_cursor_read(wrong[i], &unused));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_arbitrary_bodies),
        cmocka_unit_test(test_deep_bodies_end),
        cmocka_unit_test(test_every_changing_route_becomes_an_operation),
        cmocka_unit_test(test_create_names_its_volume),
        cmocka_unit_test(test_generation),
        cmocka_unit_test(test_what_goes_not_together),
        cmocka_unit_test(test_records),
        cmocka_unit_test(test_links_are_escaped),
        cmocka_unit_test(test_problems),
        cmocka_unit_test(test_cursors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
