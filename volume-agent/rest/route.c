/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/rest/route.h"

#include <string.h>

#include "volume-agent/rest/url.h"

#define LONGEST_OPERATION_ID 256

const DroverRestRoute drover_rest_routes[DROVER_N_ROUTES] = {
    {DROVER_ROUTE_HEALTH, "GET", "/health", DROVER_REST_PUBLIC, false, ""},
    {DROVER_ROUTE_OPENAPI, "GET", "/openapi.yaml", DROVER_REST_PUBLIC, false, ""},
    {DROVER_ROUTE_METRICS, "GET", "/metrics", DROVER_REST_READ, false, ""},
    {DROVER_ROUTE_CREATE_VOLUME, "POST", "/volumes", DROVER_REST_OPERATE, true, ""},
    {DROVER_ROUTE_GET_VOLUME, "GET", "/volumes/{volume_id}", DROVER_REST_READ, false, ""},
    {DROVER_ROUTE_DELETE_VOLUME, "DELETE", "/volumes/{volume_id}", DROVER_REST_OPERATE, true, ""},
    {DROVER_ROUTE_ATTACH_VOLUME, "POST", "/volumes/{volume_id}/attach", DROVER_REST_OPERATE, true, ""},
    {DROVER_ROUTE_ATTACH_ROOT, "POST", "/volumes/{volume_id}/attach-root", DROVER_REST_OPERATE, true, ""},
    {DROVER_ROUTE_DETACH_VOLUME, "POST", "/volumes/{volume_id}/detach", DROVER_REST_OPERATE, true, ""},
    {DROVER_ROUTE_RESIZE_VOLUME, "POST", "/volumes/{volume_id}/resize", DROVER_REST_OPERATE, true, ""},
    {DROVER_ROUTE_GET_DEVICE, "GET", "/volumes/{volume_id}/device", DROVER_REST_READ, false, ""},
    {DROVER_ROUTE_VOLUME_OF_DEVICE, "GET", "/devices/{device}/volume", DROVER_REST_READ, false, ""},
    {DROVER_ROUTE_VOLUMES_OF_VM, "GET", "/vms/{vm_id}/volumes", DROVER_REST_READ, false, ""},
    {DROVER_ROUTE_LIST_OPERATIONS, "GET", "/operations", DROVER_REST_READ, false,
     "kind state job_id volume_id vm_id limit cursor"},
    {DROVER_ROUTE_GET_OPERATION, "GET", "/operations/{operation_id}", DROVER_REST_READ, false, "wait"},
    {DROVER_ROUTE_CLEANUP_TEST_FAILOVER, "POST", "/cleanup/test-failover", DROVER_REST_OPERATE, true, ""},
    {DROVER_ROUTE_TRACK_SNAPSHOT, "POST", "/snapshots", DROVER_REST_OPERATE, true, ""},
    {DROVER_ROUTE_LIST_SNAPSHOTS, "GET", "/snapshots", DROVER_REST_READ, false, "volume_id vm_id"},
    {DROVER_ROUTE_CLEAR_SNAPSHOTS, "DELETE", "/snapshots", DROVER_REST_OPERATE, true, "volume_id vm_id"},
    {DROVER_ROUTE_GET_SNAPSHOT, "GET", "/snapshots/{snapshot_id}", DROVER_REST_READ, false, ""},
    {DROVER_ROUTE_UPDATE_SNAPSHOT, "PATCH", "/snapshots/{snapshot_id}", DROVER_REST_OPERATE, true, ""},
    {DROVER_ROUTE_CLEAR_SNAPSHOT, "DELETE", "/snapshots/{snapshot_id}", DROVER_REST_OPERATE, true, ""},
    {DROVER_ROUTE_CREATE_SNAPSHOT, "POST", "/snapshots/create", DROVER_REST_OPERATE, true, ""},
    {DROVER_ROUTE_REVERT_SNAPSHOT, "POST", "/snapshots/{snapshot_id}/revert", DROVER_REST_OPERATE, true, ""},
    {DROVER_ROUTE_DELETE_SNAPSHOT, "POST", "/snapshots/{snapshot_id}/delete", DROVER_REST_OPERATE, true, ""},
    {DROVER_ROUTE_SNAPSHOTS_OF_VOLUME, "GET", "/volumes/{volume_id}/snapshots", DROVER_REST_READ, false, ""},
    {DROVER_ROUTE_CREATE_EXPORT, "POST", "/exports", DROVER_REST_OPERATE, true, ""},
    {DROVER_ROUTE_LIST_EXPORTS, "GET", "/exports", DROVER_REST_READ, false, ""},
    {DROVER_ROUTE_CLEAN_EXPORTS, "POST", "/exports/cleanup", DROVER_REST_OPERATE, true, ""},
    {DROVER_ROUTE_GET_EXPORT, "GET", "/exports/{volume_id}", DROVER_REST_READ, false, ""},
    {DROVER_ROUTE_DELETE_EXPORT, "DELETE", "/exports/{volume_id}", DROVER_REST_OPERATE, true, ""},
    {DROVER_ROUTE_VALIDATE_EXPORT, "POST", "/exports/{volume_id}/validate", DROVER_REST_READ, false, ""},
    {DROVER_ROUTE_FORCE_SYNC, "POST", "/admin/force-sync", DROVER_REST_ADMIN, true, ""},
    {DROVER_ROUTE_PREFLIGHT, "POST", "/preflight", DROVER_REST_READ, false, ""},
};

bool drover_rest_is_uuid(const char *text)
{
    if (strlen(text) != 36)
        return false;
    for (int i = 0; i < 36; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? text[i] != '-' : !g_ascii_isxdigit(text[i]) || g_ascii_isupper(text[i]))
            return false;
    }
    return true;
}

bool drover_rest_is_operation_id(const char *text)
{
    size_t len = strlen(text);
    for (const char *at = text; *at; at++)
        if (!g_ascii_isalnum(*at) && !strchr("._-/", *at))
            return false;
    return len > 0 && len <= LONGEST_OPERATION_ID;
}

/* A device by the name that the kernel gives it: "vdb", "/dev/vdb". */
static bool is_device(const char *text)
{
    const char *name = g_str_has_prefix(text, "/dev/") ? text + 5 : text;
    size_t len = strlen(name);
    for (const char *at = name; *at; at++)
        if (!g_ascii_isalnum(*at) && !strchr("_-", *at))
            return false;
    return len > 0 && len <= 32;
}

static bool has_shape(const char *parameter, const char *value)
{
    if (strcmp(parameter, "{operation_id}") == 0)
        return drover_rest_is_operation_id(value);
    if (strcmp(parameter, "{device}") == 0)
        return is_device(value);
    return drover_rest_is_uuid(value);
}

/* The segments of a path fit TEMPLATE. *AT: which of them is its {parameter}, or -1. */
static bool fits(const char *template, char **segments, int *at)
{
    g_auto(GStrv) parts = g_strsplit(template + 1, "/", -1);
    *at = -1;
    int i = 0;
    for (; parts[i] && segments[i]; i++) {
        if (*parts[i] == '{')
            *at = i;
        else if (strcmp(parts[i], segments[i]) != 0)
            return false;
    }
    return !parts[i] && !segments[i];
}

static const char *parameter_of(const char *template)
{
    return strchr(template, '{');
}

static bool check_parameter(const DroverRestRoute *route, const char *value, DroverRestProblem *problem)
{
    g_autofree char *name = g_strdup(parameter_of(route->path));
    *(strchr(name, '}') + 1) = '\0';
    if (has_shape(name, value))
        return true;
    name[strlen(name) - 1] = '\0';
    drover_rest_problem(problem, 400, "DRV-REST-REQUEST", "The %s in the path has not the shape of one",
                        name + 1);
    return drover_rest_problem_detail(problem, "field", name + 1);
}

const DroverRestRoute *drover_rest_route(const char *method, const char *path, char **parameter, char **allow,
                                         DroverRestProblem *problem)
{
    g_auto(GStrv) all = drover_rest_split_path(path);
    if (!all) {
        drover_rest_problem(problem, 400, "DRV-REST-REQUEST", "The path is not a valid one");
        return NULL;
    }
    char **segments = all;
    bool ours = all[0] && strcmp(all[0], "api") == 0 && all[1] && strcmp(all[1], "v1") == 0;
    segments += ours ? 2 : 0;
    g_autoptr(GString) methods = g_string_new(NULL);
    for (int i = 0; ours && i < DROVER_N_ROUTES; i++) {
        const DroverRestRoute *route = &drover_rest_routes[i];
        int at = -1;
        if (!fits(route->path, segments, &at))
            continue;
        if (strcmp(method, route->method) == 0) {
            if (at >= 0 && !check_parameter(route, segments[at], problem))
                return NULL;
            *parameter = at >= 0 ? g_strdup(segments[at]) : NULL;
            return route;
        }
        if (!strstr(methods->str, route->method))
            g_string_append_printf(methods, "%s%s", methods->len ? ", " : "", route->method);
    }
    if (methods->len > 0) {
        drover_rest_problem(problem, 405, "DRV-REST-METHOD", "%s does not take %s, only %s", path, method,
                            methods->str);
        *allow = g_string_free(g_steal_pointer(&methods), FALSE);
    } else {
        drover_rest_problem(problem, 404, "DRV-REST-PATH",
                            "There is nothing at %s; see " DROVER_REST_PREFIX "/openapi.yaml", path);
    }
    return NULL;
}

bool drover_rest_route_takes(const DroverRestRoute *route, const char *name)
{
    if (route->changes && (strcmp(name, "operation_id") == 0 || strcmp(name, "wait") == 0))
        return true;
    g_auto(GStrv) names = g_strsplit(route->query, " ", -1);
    return g_strv_contains((const char *const *)names, name);
}
