/* SPDX-License-Identifier: Apache-2.0 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cli/columns.h"
#include "cli/session.h"
#include "cli/view.h"
#include "drover/v1/task.pb-c.h"
#include "lib/base/ids.h"
#include "lib/kafka/kafka.h"

#define ANSWER_MS 5000
#define ACKNOWLEDGE_MS 15000
#define POLL_US 500000

/* Into the agent's own log, in one order with everything else that it is asked to do. */
static bool send_order(DroverSession *session, const char *agent, bool on, GError **error)
{
    g_autofree char *topic = g_strconcat("drover.tasks.", agent, NULL);
    g_autofree char *id = drover_id_new(on ? "drain-" : "undrain-");
    g_autofree char *by = g_strdup_printf("%s@%s", g_get_user_name(), g_get_host_name());
    Drover__V1__DrainAppliance drain = DROVER__V1__DRAIN_APPLIANCE__INIT;
    drain.on = on;
    Drover__V1__VolumeOperation operation = DROVER__V1__VOLUME_OPERATION__INIT;
    operation.operation_id = id;
    operation.job_id = (char *)"drain";
    operation.requested_at_ms = drover_now_ms();
    operation.requested_by = by;
    operation.operation_case = DROVER__V1__VOLUME_OPERATION__OPERATION_DRAIN_APPLIANCE;
    operation.drain_appliance = &drain;
    Drover__V1__Task task = DROVER__V1__TASK__INIT;
    task.task_id = id;
    task.job_id = operation.job_id;
    task.attempt = 1;
    task.created_at_ms = operation.requested_at_ms;
    task.assigned_to = (char *)agent;
    task.body_case = DROVER__V1__TASK__BODY_OPERATION;
    task.operation = &operation;
    g_autoptr(DroverConsumer) consumer = drover_consumer_new_manual(session->kafka, error);
    g_autoptr(DroverProducer) producer = NULL;
    if (consumer && drover_kafka_partition_count(consumer, topic, ANSWER_MS, error) > 0)
        producer = drover_producer_new(session->kafka, error);
    return producer && drover_producer_send_sync(producer, topic, 0, task.job_id, &task.base, ACKNOWLEDGE_MS, error);
}

static const char *text_of(const json_t *o, const char *name)
{
    const char *text = json_string_value(json_object_get(o, name));
    return text ? text : "";
}

static const char *state_of(const json_t *o)
{
    if (!o)
        return "unknown";
    if (json_is_true(json_object_get(o, "stopped")))
        return "stopped";
    if (drover_now_ms() > json_integer_value(json_object_get(o, "expires_at_ms")))
        return "silent";
    if (json_is_true(json_object_get(o, "appliance_drained")))
        return "drained";
    return json_is_true(json_object_get(o, "appliance_draining")) ? "draining" : "in-service";
}

/* The last heartbeat of AGENT, or NULL. The caller's reference. */
static bool read_agent(DroverSession *session, const char *agent, json_t **heartbeat, GError **error)
{
    g_autofree char *key = g_strconcat(drover_redis_prefix(session->redis), "fleet", NULL);
    g_autoptr(DroverRedisReply) r = drover_redis_call(session->redis, error, "HGET", key, agent, NULL);
    *heartbeat = r && r->type == REDIS_REPLY_STRING ? json_loads(r->str, 0, NULL) : NULL;
    return r != NULL;
}

/* Agent -> number of jobs that have not ended. */
static GHashTable *count_jobs(DroverSession *session, GError **error)
{
    g_autoptr(GHashTable) jobs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GPtrArray) ids = drover_view_jobs(session->redis, NULL, 0, error);
    if (!ids)
        return NULL;
    for (guint i = 0; i < ids->len; i++) {
        g_autoptr(DroverJobView) view = NULL;
        if (!drover_view_job(session->redis, g_ptr_array_index(ids, i), &view, error))
            return NULL;
        if (!view || drover_view_ended(view))
            continue;
        const char *agent = drover_view_text(view->fields, "agent");
        unsigned n = GPOINTER_TO_UINT(g_hash_table_lookup(jobs, agent));
        g_hash_table_replace(jobs, g_strdup(agent), GUINT_TO_POINTER(n + 1));
    }
    return g_steal_pointer(&jobs);
}

static json_t *describe(const char *agent, const json_t *o, unsigned jobs)
{
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:i, s:s}", "agent", agent, "state", state_of(o), "device_slots",
                     json_integer_value(json_object_get(o, "device_slots")), "free_device_slots",
                     json_integer_value(json_object_get(o, "free_device_slots")), "open_exports",
                     json_integer_value(json_object_get(o, "open_exports")), "jobs", (int)jobs, "scope", text_of(o, "scope"));
}

static DroverExitCode list(DroverSession *session, bool json)
{
    static const char *const headings[] = {"AGENT", "STATE", ">FREE SLOTS", ">OF", ">EXPORTS", ">JOBS", "SCOPE", NULL};
    static const char *const numbers[] = {"free_device_slots", "device_slots", "open_exports", "jobs"};
    g_autoptr(GError) error = NULL;
    g_autoptr(GHashTable) jobs = drover_session_redis(session, &error) ? count_jobs(session, &error) : NULL;
    if (!jobs)
        return drover_session_fail(session, error);
    json_t *array = json_array();
    for (const char *const *agent = drover_config_list(session->config, "fleet.agents"); *agent && !error; agent++) {
        json_t *heartbeat = NULL;
        if (read_agent(session, *agent, &heartbeat, &error))
            json_array_append_new(array, describe(*agent, heartbeat, GPOINTER_TO_UINT(g_hash_table_lookup(jobs, *agent))));
        json_decref(heartbeat);
    }
    g_autoptr(DroverColumns) columns = drover_columns_new(headings);
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *o = json_array_get(array, i);
        drover_columns_add(columns, g_strdup(text_of(o, "agent")));
        drover_columns_add(columns, g_strdup(text_of(o, "state")));
        for (size_t n = 0; n < G_N_ELEMENTS(numbers); n++)
            drover_columns_add(columns, g_strdup_printf("%d", (int)json_integer_value(json_object_get(o, numbers[n]))));
        drover_columns_add(columns, g_strdup(text_of(o, "scope")));
    }
    char *text = json ? json_dumps(array, JSON_INDENT(2)) : NULL;
    g_autofree char *table = drover_columns_text(columns);
    if (!error)
        g_print("%s%s", json ? text : table, json ? "\n" : "");
    free(text);
    json_decref(array);
    return error ? drover_session_fail(session, error) : DROVER_EXIT_OK;
}

/* Until nothing is left there, by the agent's word and the leader's. */
static DroverExitCode wait_until_drained(DroverSession *session, const char *agent, int64_t wait_ms)
{
    int64_t give_up_ms = drover_boottime_ms() + wait_ms;
    g_autoptr(GError) error = NULL;
    if (!drover_session_redis(session, &error))
        return drover_session_fail(session, error);
    for (;; g_usleep(POLL_US)) {
        json_t *heartbeat = NULL;
        g_autoptr(GHashTable) jobs =
            read_agent(session, agent, &heartbeat, &error) ? count_jobs(session, &error) : NULL;
        const char *state = state_of(heartbeat);
        json_decref(heartbeat);
        if (!jobs)
            return drover_session_fail(session, error);
        unsigned left = GPOINTER_TO_UINT(g_hash_table_lookup(jobs, agent));
        if (strcmp(state, "drained") == 0 && left == 0) {
            g_print("%s: drained\n", agent);
            return DROVER_EXIT_OK;
        }
        if (drover_boottime_ms() > give_up_ms) {
            g_printerr("%s: still %s, with %u jobs; it goes on draining\n", agent, state, left);
            return DROVER_EXIT_JOB_FAILED;
        }
    }
}

static DroverExitCode run(const DroverCommand *command, int argc, char **argv)
{
    g_autofree char *wait = NULL;
    gboolean json = FALSE;
    const GOptionEntry flags[] = {
        {"wait", 0, 0, G_OPTION_ARG_STRING, &wait, "With drain: wait so long until nothing is left, e.g. 2h", "TIME"},
        {"json", 0, 0, G_OPTION_ARG_NONE, &json, "With list: one JSON array", NULL},
        {NULL},
    };
    g_auto(DroverSession) session = {0};
    g_autoptr(GError) error = NULL;
    DroverExitCode code;
    uint64_t wait_ms = 0;
    if (!drover_session_open(&session, command, flags, argc, argv, 1, 2, &code))
        return code;
    const char *verb = session.argv[0], *agent = session.argc > 1 ? session.argv[1] : NULL;
    bool on = strcmp(verb, "drain") == 0;
    if (strcmp(verb, "list") == 0)
        return agent || wait ? drover_session_usage(&session, "list takes neither an agent nor --wait") : list(&session, json);
    if (!on && strcmp(verb, "undrain") != 0)
        return drover_session_usage(&session, "'%s' is none of list, drain and undrain", verb);
    if (!agent || json || (wait && !on))
        return drover_session_usage(&session, "%s", !agent ? "which agent?" : "--json goes with list, --wait with drain");
    if (!g_strv_contains(drover_config_list(session.config, "fleet.agents"), agent))
        return drover_session_usage(&session, "'%s' is none of [fleet] agents", agent);
    if (wait && !drover_parse_duration(wait, &wait_ms, &error))
        return drover_session_usage(&session, "--wait: %s", error->message);
    if (!drover_session_kafka(&session, &error) || !send_order(&session, agent, on, &error))
        return drover_session_fail(&session, error);
    g_print("%s: %s\n", agent, on ? "to be drained" : "takes VMs again");
    return wait ? wait_until_drained(&session, agent, (int64_t)wait_ms) : DROVER_EXIT_OK;
}

const DroverCommand drover_command_agent = {
    .name = "agent",
    .synopsis = "list|drain|undrain [AGENT]",
    .summary = "list volume agents, or empty an appliance",
    .description = "drain: the agent's appliance is given no new VM, and those that it has move to other appliances of its scope as soon\n"
                   "as no copy of theirs runs: between rounds, before a round copies, or while they are paused. A round or a\n"
                   "cutover under way ends first. The agent remembers it across restarts; undrain takes it back.\n"
                   "list: state, slots, exports and unfinished jobs of each; drained: nothing is left on the appliance.\n"
                   "--wait exits with 1 when something is left after that time.",
    .run = run,
};
