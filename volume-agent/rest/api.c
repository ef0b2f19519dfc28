/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/rest/api.h"

#include <string.h>

#include "lib/base/drain.h"
#include "lib/base/ids.h"
#include "volume-agent/rest/url.h"

#define LONGEST_WAIT_MS 300000

void drover_rest_call_clear(DroverRestCall *call)
{
    g_free(call->parameter);
    g_free(call->caller);
    g_free(call->allow);
    g_strfreev(call->query);
}

/* ---- the head
 * ---------------------------------------------------------------------------------------------------- */

static bool check_rate(DroverRestApi *api, const DroverRestCall *call, DroverRestProblem *problem)
{
    /* Names and addresses are told apart: a token called like an address shares no bucket with it. */
    g_autofree char *who =
        call->caller ? g_strconcat("token ", call->caller, NULL) : g_strconcat("from ", call->remote, NULL);
    unsigned retry_s = 1;
    g_mutex_lock(&api->rate_lock);
    bool ok = drover_rest_rate_take(api->rate, who, drover_boottime_ms(), &retry_s);
    g_mutex_unlock(&api->rate_lock);
    if (ok)
        return true;
    drover_rest_problem(problem, 429, "DRV-REST-RATE", "Too many requests; try again in %u s", retry_s);
    problem->retry_after_s = retry_s;
    return false;
}

static bool check_role(const DroverRestCall *call, DroverRestProblem *problem)
{
    DroverRestRole needs = call->route->role;
    if (needs == DROVER_REST_PUBLIC)
        return true;
    if (!call->caller)
        return drover_rest_problem(problem, 401, "DRV-REST-TOKEN",
                                   call->authorization
                                       ? "The bearer token is not one that this agent knows"
                                       : "A bearer token is needed: Authorization: Bearer TOKEN");
    if (drover_rest_role_allows(call->role, needs))
        return true;
    drover_rest_problem(problem, 403, "DRV-REST-ROLE", "%s %s needs the role %s; token %s has %s",
                        call->method, call->route->path, drover_rest_role_name(needs), call->caller,
                        drover_rest_role_name(call->role));
    return drover_rest_problem_detail(problem, "role", drover_rest_role_name(needs));
}

static bool query_problem(DroverRestProblem *problem, const char *name, const char *what)
{
    drover_rest_problem(problem, 400, "DRV-REST-REQUEST", "Query parameter '%s' %s", name, what);
    return drover_rest_problem_detail(problem, "field", name);
}

/* What a value must look like. NULL: good. */
static const char *wrong_value(const char *name, const char *value)
{
    if (strcmp(name, "operation_id") == 0 || strcmp(name, "job_id") == 0)
        return drover_id_is_valid(value) ? NULL : "must be 1 to 64 of letters, digits, '.', '_' and '-'";
    if (g_str_has_suffix(name, "_id"))
        return drover_rest_is_uuid(value) ? NULL : "must be a UUID in lower case";
    static const char *const states[] = {"accepted", "running", "done", "failed", NULL};
    if (strcmp(name, "state") == 0)
        return g_strv_contains(states, value) ? NULL : "must be accepted, running, done or failed";
    if (strcmp(name, "kind") == 0)
        return strspn(value, "abcdefghijklmnopqrstuvwxyz-") == strlen(value) && *value && strlen(value) <= 40
                   ? NULL
                   : "must be the kind of an operation, like attach-volume";
    return NULL; /* wait, limit and cursor are looked at by those who use them */
}

static bool check_query(const DroverRestCall *call, DroverRestProblem *problem)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (char **pair = call->query; *pair; pair += 2) {
        g_autofree char *name = drover_rest_decode(pair[0]);
        g_autofree char *value = drover_rest_decode(pair[1]);
        if (!name || !value)
            return drover_rest_problem(problem, 400, "DRV-REST-REQUEST", "The query cannot be decoded");
        if (!drover_rest_route_takes(call->route, name))
            return query_problem(problem, name, "is not known here");
        const char *wrong = *value ? wrong_value(name, value) : "must not be empty";
        if (wrong)
            return query_problem(problem, name, wrong);
        if (!g_hash_table_add(seen, g_steal_pointer(&name)))
            return drover_rest_problem(problem, 400, "DRV-REST-REQUEST", "A query parameter is given twice");
    }
    int64_t unused = 0;
    return drover_rest_wait_of(call, &unused, problem);
}

bool drover_rest_admit(DroverRestApi *api, DroverRestCall *call, DroverRestProblem *problem)
{
    const char *token = drover_rest_bearer(call->authorization);
    if (!drover_rest_keyring_find(api->keyring, token, &call->caller, &call->role))
        call->role = DROVER_REST_PUBLIC;
    if (!check_rate(api, call, problem))
        return false;
    call->route = drover_rest_route(call->method, call->path, &call->parameter, &call->allow, problem);
    return call->route && check_role(call, problem) && check_query(call, problem);
}

char *drover_rest_query(const DroverRestCall *call, const char *name)
{
    for (char **pair = call->query; *pair; pair += 2) {
        g_autofree char *decoded = drover_rest_decode(pair[0]);
        if (decoded && strcmp(decoded, name) == 0)
            return drover_rest_decode(pair[1]);
    }
    return g_strdup("");
}

/* Whole seconds, minutes or milliseconds: "30s", "5m", "500ms". */
static bool read_wait(const char *text, int64_t *wait_ms)
{
    char *end = NULL;
    guint64 n = g_ascii_isdigit(*text) ? g_ascii_strtoull(text, &end, 10) : 0;
    if (!end || end - text > 6)
        return false;
    guint64 unit = strcmp(end, "s") == 0    ? 1000
                   : strcmp(end, "m") == 0  ? 60000
                   : strcmp(end, "ms") == 0 ? 1
                                            : 0;
    *wait_ms = (int64_t)(n * unit);
    return unit > 0 && n * unit <= LONGEST_WAIT_MS;
}

bool drover_rest_wait_of(const DroverRestCall *call, int64_t *wait_ms, DroverRestProblem *problem)
{
    g_autofree char *text = drover_rest_query(call, "wait");
    *wait_ms = 0;
    return !*text || read_wait(text, wait_ms) ||
           query_problem(problem, "wait", "must be a time of at most 5m, like 30s or 500ms");
}

/* ---- the rest
 * ----------------------------------------------------------------------------------------------------- */

static bool is_json(const char *content_type)
{
    if (!content_type || g_ascii_strncasecmp(content_type, "application/json", 16) != 0)
        return false;
    return content_type[16] == '\0' || content_type[16] == ';' || content_type[16] == ' ';
}

bool drover_rest_handle(DroverRestApi *api, const DroverRestCall *call, DroverRestReply *reply,
                        DroverRestProblem *problem)
{
    if (call->body_len > 0 && !is_json(call->content_type))
        return drover_rest_problem(problem, 415, "DRV-REST-TYPE",
                                   "A body must have the Content-Type application/json");
    json_t *body =
        drover_rest_parse_body(call->body, call->body_len, drover_rest_fields_of(call->route->id), problem);
    if (!body)
        return false;
    bool ok = call->route->changes                        ? drover_rest_submit_change(api, call, body, reply, problem)
              : call->route->id == DROVER_ROUTE_PREFLIGHT ? drover_rest_preflight(api, body, reply, problem)
                                                          : drover_rest_answer_query(api, call, reply, problem);
    json_decref(body);
    return ok;
}

void drover_rest_wait(DroverRestApi *api, const char *operation_id, int64_t wait_ms)
{
    if (wait_ms > 0 && atomic_fetch_add(&api->waiting, 1) < api->most_waiting)
        drover_rest_view_wait(api->view, operation_id, true, wait_ms, drover_drain_requested);
    if (wait_ms > 0)
        atomic_fetch_sub(&api->waiting, 1);
}

bool drover_rest_reply_operation(DroverRestApi *api, const char *operation_id, DroverRestReply *reply,
                                 DroverRestProblem *problem)
{
    bool ended = false;
    json_t *record = drover_rest_view_operation(api->view, operation_id, &ended);
    if (!record && atomic_load(&api->intake->current_at_ms) == 0)
        return drover_rest_problem(problem, 503, "DRV-REST-STARTING",
                                   "The agent has just started and is still reading its log; ask again");
    if (!record)
        return drover_rest_problem(problem, 404, "DRV-REST-OPERATION", "There is no operation %s",
                                   operation_id);
    reply->location = g_strdup(json_string_value(json_object_get(json_object_get(record, "links"), "self")));
    drover_rest_reply_json(reply, ended ? 200 : 202, record);
    return true;
}
