/* SPDX-License-Identifier: Apache-2.0 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bar.h"
#include "cli/session.h"
#include "lib/base/ids.h"

static const char *text_of(const json_t *o, const char *name)
{
    const char *text = json_string_value(json_object_get(o, name));
    return text ? text : "";
}

static int64_t number_of(const json_t *o, const char *name)
{
    return json_integer_value(json_object_get(o, name));
}

static const char *state_of(const json_t *o)
{
    if (json_is_true(json_object_get(o, "stopped")))
        return "stopped";
    if (drover_now_ms() > number_of(o, "expires_at_ms"))
        return "silent";
    if (json_is_true(json_object_get(o, "draining")))
        return "draining";
    return "alive";
}

/* What is worth saying about one of its role. */
static char *detail(const json_t *o)
{
    const char *role = text_of(o, "role");
    if (strcmp(role, "worker") == 0)
        return g_strdup_printf("%d of %d copy slots in use or claimed", (int)number_of(o, "running_tasks"),
                               (int)number_of(o, "copy_slots"));
    if (strcmp(role, "volume-agent") == 0)
        return g_strdup_printf("%d of %d device slots free, %d exports, CloudStack %s", (int)number_of(o, "free_device_slots"),
                               (int)number_of(o, "device_slots"), (int)number_of(o, "open_exports"),
                               json_is_true(json_object_get(o, "cloudstack_reachable")) ? "reachable" : "not reachable");
    if (strcmp(role, "scheduler") == 0)
        return g_strdup_printf("%s, %d jobs, %d tasks running, %d ready",
                               json_is_true(json_object_get(o, "leader")) ? "leader" : "standby",
                               (int)number_of(o, "jobs_active"), (int)number_of(o, "tasks_running"),
                               (int)number_of(o, "tasks_ready"));
    return g_strdup("");
}

static void print_row(const json_t *o)
{
    g_autofree char *what = detail(o);
    g_autofree char *ago = drover_duration_text(MAX(drover_now_ms() - number_of(o, "at_ms"), 0) / 1000);
    g_print("%-24s %-20s %-9s %-14s %-16s %8s ago  %s\n", text_of(o, "process_id"), text_of(o, "role"), state_of(o),
            text_of(o, "site"), text_of(o, "host"), ago, what);
}

static int by_name(gconstpointer a, gconstpointer b)
{
    const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
    int order = strcmp(text_of(x, "role"), text_of(y, "role"));
    return order ? order : strcmp(text_of(x, "process_id"), text_of(y, "process_id"));
}

static GPtrArray *read_fleet(DroverSession *session, GError **error)
{
    g_autofree char *key = g_strconcat(drover_redis_prefix(session->redis), "fleet", NULL);
    g_autoptr(DroverRedisReply) r = drover_redis_call(session->redis, error, "HVALS", key, NULL);
    if (!r)
        return NULL;
    GPtrArray *fleet = g_ptr_array_new_with_free_func((GDestroyNotify)json_decref);
    for (size_t i = 0; r->type == REDIS_REPLY_ARRAY && i < r->elements; i++) {
        json_t *o = json_loads(r->element[i]->str, 0, NULL);
        if (o)
            g_ptr_array_add(fleet, o);
    }
    g_ptr_array_sort(fleet, by_name);
    return fleet;
}

static void print_json(const GPtrArray *fleet)
{
    json_t *array = json_array();
    for (guint i = 0; i < fleet->len; i++) {
        json_t *o = g_ptr_array_index(fleet, i);
        json_object_set_new(o, "state", json_string(state_of(o)));
        json_array_append(array, o);
    }
    char *text = json_dumps(array, JSON_INDENT(2));
    g_print("%s\n", text);
    free(text);
    json_decref(array);
}

static DroverExitCode run(const DroverCommand *command, int argc, char **argv)
{
    gboolean json = FALSE;
    const GOptionEntry flags[] = {
        {"json", 0, 0, G_OPTION_ARG_NONE, &json, "One JSON array", NULL},
        {NULL},
    };
    g_auto(DroverSession) session = {0};
    g_autoptr(GError) error = NULL;
    DroverExitCode code;
    if (!drover_session_open(&session, command, flags, argc, argv, 0, 0, &code))
        return code;
    g_autoptr(GPtrArray) fleet = drover_session_redis(&session, &error) ? read_fleet(&session, &error) : NULL;
    if (!fleet)
        return drover_session_fail(&session, error);
    if (json) {
        print_json(fleet);
        return DROVER_EXIT_OK;
    }
    if (!fleet->len)
        g_print("No process has been heard of.\n");
    else
        g_print("%-24s %-20s %-9s %-14s %-16s %12s  %s\n", "PROCESS", "ROLE", "STATE", "SITE", "HOST", "HEARD", "");
    for (guint i = 0; i < fleet->len; i++)
        print_row(g_ptr_array_index(fleet, i));
    return DROVER_EXIT_OK;
}

const DroverCommand drover_command_fleet = {
    .name = "fleet",
    .synopsis = "",
    .summary = "list the processes of the fleet",
    .description = "Lists the processes that have sent heartbeats. silent: three of its own intervals without a sign.",
    .run = run,
};
