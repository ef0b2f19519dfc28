/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off: cmocka wants these first */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
/* clang-format on */
#include <string.h>

#include "volume-agent/rest/openapi.h"
#include "volume-agent/rest/route.h"
#include "volume-agent/rest/url.h"

#define UUID "0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0"

static void test_decode(void **state)
{
    (void)state;
    static const struct {
        const char *text, *expected;
    } table[] = {
        {"", ""},         {"abc", "abc"},         {"a%2Fb", "a/b"}, {"a%2fb", "a/b"},
        {"%41%5a", "AZ"}, {"%c3%a9", "\xc3\xa9"}, {"%25", "%"},     {"a+b", "a+b"},
        {"%", NULL},      {"%4", NULL},           {"%4g", NULL},    {"%g4", NULL},
        {"a%00b", NULL},  {"%ff", NULL},          {"%c3", NULL},    {"\xff", NULL},
        {"%%41", NULL},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
        g_autofree char *decoded = drover_rest_decode(table[i].text);
        if (table[i].expected)
            assert_string_equal(decoded, table[i].expected);
        else
            assert_null(decoded);
    }
}

static void test_split_path(void **state)
{
    (void)state;
    static const struct {
        const char *path, *joined; /* by '|' */
    } table[] = {
        {"/", ""},    {"/a", "a"},   {"/a/b%2Fc", "a|b/c"}, {"", NULL},        {"a", NULL},
        {"//", NULL}, {"/a/", NULL}, {"/a//b", NULL},       {"/a/../b", NULL}, {"/a/%2e%2e/b", NULL},
        {"/.", NULL}, {"/a%", NULL}, {"*", NULL},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
        g_auto(GStrv) segments = drover_rest_split_path(table[i].path);
        g_autofree char *joined = segments ? g_strjoinv("|", segments) : NULL;
        if (table[i].joined)
            assert_string_equal(joined, table[i].joined);
        else
            assert_null(joined);
    }
}

static void expect(const char *method, const char *path, int id, const char *parameter)
{
    g_autofree char *value = NULL, *allow = NULL;
    g_auto(DroverRestProblem) problem = {0};
    const DroverRestRoute *route = drover_rest_route(method, path, &value, &allow, &problem);
    assert_non_null(route);
    assert_int_equal(route->id, id);
    if (parameter)
        assert_string_equal(value, parameter);
    else
        assert_null(value);
}

static void expect_problem(const char *method, const char *path, unsigned status, const char *allowed)
{
    g_autofree char *value = NULL, *allow = NULL;
    g_auto(DroverRestProblem) problem = {0};
    assert_null(drover_rest_route(method, path, &value, &allow, &problem));
    assert_int_equal(problem.status, status);
    assert_non_null(problem.code);
    assert_null(value);
    if (allowed)
        assert_string_equal(allow, allowed);
    else
        assert_null(allow);
}

static void test_routes(void **state)
{
    (void)state;
    expect("GET", "/api/v1/health", DROVER_ROUTE_HEALTH, NULL);
    expect("POST", "/api/v1/volumes", DROVER_ROUTE_CREATE_VOLUME, NULL);
    expect("DELETE", "/api/v1/volumes/" UUID, DROVER_ROUTE_DELETE_VOLUME, UUID);
    expect("POST", "/api/v1/volumes/" UUID "/attach-root", DROVER_ROUTE_ATTACH_ROOT, UUID);
    expect("GET", "/api/v1/devices/vdb/volume", DROVER_ROUTE_VOLUME_OF_DEVICE, "vdb");
    expect("GET", "/api/v1/devices/%2Fdev%2Fvdb/volume", DROVER_ROUTE_VOLUME_OF_DEVICE, "/dev/vdb");
    expect("GET", "/api/v1/operations/job-1%2Fdisk0%2Fattach%2F1", DROVER_ROUTE_GET_OPERATION,
           "job-1/disk0/attach/1");
    expect("POST", "/api/v1/exports/cleanup", DROVER_ROUTE_CLEAN_EXPORTS, NULL);
}

static void test_refusals(void **state)
{
    (void)state;
    expect_problem("GET", "/", 404, NULL);
    expect_problem("GET", "/api/v1", 404, NULL);
    expect_problem("GET", "/api/v2/health", 404, NULL);
    expect_problem("GET", "/api/v1/health/x", 404, NULL);
    expect_problem("GET", "/health", 404, NULL);
    expect_problem("GET", "/api/v1/operations/a/b", 404, NULL);
    expect_problem("POST", "/api/v1/health", 405, "GET");
    expect_problem("PUT", "/api/v1/volumes/" UUID, 405, "GET, DELETE");
    expect_problem("get", "/api/v1/health", 405, "GET");
    expect_problem("GET", "/api/v1/volumes/not-a-uuid", 400, NULL);
    expect_problem("GET", "/api/v1/volumes/0B1C2D3E-4F50-6172-8394-A5B6C7D8E9F0", 400, NULL);
    expect_problem("GET", "/api/v1/devices/vd%20b/volume", 400, NULL);
    expect_problem("GET", "/api/v1/devices/..%2Fetc/volume", 400, NULL);
    expect_problem("GET", "/api/v1/operations/a%20b", 400, NULL);
    expect_problem("GET", "/api/v1/../v1/health", 400, NULL);
    expect_problem("GET", "/api/v1/volumes/%zz", 400, NULL);
}

/* Whatever comes, it is a route, or a problem with a status of the client's fault. */
static void test_arbitrary_paths(void **state)
{
    (void)state;
    static const char *const pieces[] = {"/api",     "/v1",    "/volumes", "/",  "%2F",         "%",
                                         "%00",      "%2e%2e", "..",       UUID, "{volume_id}", "/exports",
                                         "/cleanup", "\xff",   "a",        "?",  "//",          "/operations",
                                         "%c3%a9",   " ",      "/device"};
    GRand *random = g_rand_new_with_seed(6);
    for (int i = 0; i < 50000; i++) {
        g_autoptr(GString) path = g_string_new(g_rand_boolean(random) ? "/api/v1" : "");
        for (int n = g_rand_int_range(random, 0, 6); n > 0; n--)
            g_string_append(path, pieces[g_rand_int_range(random, 0, G_N_ELEMENTS(pieces))]);
        g_autofree char *value = NULL, *allow = NULL;
        g_auto(DroverRestProblem) problem = {0};
        const DroverRestRoute *route =
            drover_rest_route(g_rand_boolean(random) ? "GET" : "POST", path->str, &value, &allow, &problem);
        assert_int_equal(route != NULL, problem.status == 0);
        assert_true(route || (problem.status >= 400 && problem.status < 500 &&
                              g_utf8_validate(problem.message, -1, NULL)));
        assert_int_equal(value != NULL, route && strchr(route->path, '{'));
    }
    g_rand_free(random);
}

static void test_table(void **state)
{
    (void)state;
    for (int i = 0; i < DROVER_N_ROUTES; i++) {
        const DroverRestRoute *route = &drover_rest_routes[i];
        assert_int_equal(route->id, i);
        /* Nobody changes anything without the right to; only two routes are for everybody. */
        assert_true(!route->changes || route->role >= DROVER_REST_OPERATE);
        assert_int_equal(route->role == DROVER_REST_PUBLIC,
                         i == DROVER_ROUTE_HEALTH || i == DROVER_ROUTE_OPENAPI);
        assert_int_equal(drover_rest_route_takes(route, "operation_id"), route->changes);
        assert_false(drover_rest_route_takes(route, "token"));
        assert_false(drover_rest_route_takes(route, "kind state"));
    }
    assert_true(drover_rest_route_takes(&drover_rest_routes[DROVER_ROUTE_LIST_OPERATIONS], "cursor"));
    assert_true(drover_rest_route_takes(&drover_rest_routes[DROVER_ROUTE_GET_OPERATION], "wait"));
    assert_false(drover_rest_route_takes(&drover_rest_routes[DROVER_ROUTE_LIST_EXPORTS], "wait"));
}

static char *lower(const char *method)
{
    return g_ascii_strdown(method, -1);
}

/* The part of the file that is about one path, up to the next one. */
static char *section(const char *text, const char *path)
{
    g_autofree char *head = g_strconcat("\n  " DROVER_REST_PREFIX, path, ":\n", NULL);
    const char *begin = strstr(text, head);
    assert_non_null(begin);
    begin += strlen(head);
    const char *end = begin;
    while ((end = strchr(end, '\n')) && strncmp(end, "\n  /", 4) != 0 &&
           strncmp(end, "\ncomponents:", 12) != 0)
        end++;
    return g_strndup(begin, (gsize)(end - begin));
}

static void test_openapi_says_the_same(void **state)
{
    (void)state;
    g_autofree char *text = drover_rest_openapi();
    unsigned described = 0;
    for (int i = 0; i < DROVER_N_ROUTES; i++) {
        const DroverRestRoute *route = &drover_rest_routes[i];
        g_autofree char *about = section(text, route->path);
        g_autofree char *method = lower(route->method);
        g_autofree char *verb = g_strdup_printf("    %s:\n      operationId: ", method);
        const char *at = strstr(about, verb);
        assert_non_null(at);
        g_autofree char *role = g_strdup_printf("      x-role: %s\n", drover_rest_role_name(route->role));
        const char *said = strstr(at, "      x-role: ");
        assert_non_null(said);
        assert_int_equal(strncmp(said, role, strlen(role)), 0);
    }
    for (const char *at = text; (at = strstr(at, "      operationId: ")); at++)
        described++;
    assert_int_equal(described, DROVER_N_ROUTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_split_path),
        cmocka_unit_test(test_routes),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_arbitrary_paths),
        cmocka_unit_test(test_openapi_says_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
