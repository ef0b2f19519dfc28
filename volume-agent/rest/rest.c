/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/rest/rest.h"

#include "volume-agent/rest/server.h"

#define CALLERS 1000

struct DroverRest {
    const DroverRestSettings *settings;
    DroverRestApi api;
    DroverRestServer *server;
};

static void on_cloud_answer(void *data, const char *command, int64_t took_us, int error_code)
{
    DroverRestMetrics *metrics = data;
    g_autofree char *labels = drover_rest_labels("command", command, NULL);
    drover_rest_metrics_add(metrics, "drover_agent_cloudstack_calls_total", labels, 1);
    drover_rest_metrics_observe(metrics, "drover_agent_cloudstack_call_seconds", labels,
                                (double)took_us / 1e6);
    if (error_code == 0)
        return;
    g_autofree char *code = error_code > 0 ? g_strdup_printf("%d", error_code) : g_strdup("no-answer");
    g_autofree char *error_labels = drover_rest_labels("command", command, "code", code, NULL);
    drover_rest_metrics_add(metrics, "drover_agent_cloudstack_errors_total", error_labels, 1);
}

static void on_operation_end(void *data, const char *kind, const char *state, int64_t took_ms)
{
    g_autofree char *labels = drover_rest_labels("kind", kind, "state", state, NULL);
    drover_rest_metrics_observe(data, "drover_agent_operation_seconds", labels, (double)took_ms / 1000);
}

DroverRest *drover_rest_new(const DroverRestParts *parts, const GPtrArray *operations, GError **error)
{
    if (!parts->settings->on)
        return NULL;
    DroverRestKeyring *keyring = drover_rest_keyring_new(parts->settings->tokens, error);
    if (!keyring)
        return NULL;
    DroverRest *rest = g_new0(DroverRest, 1);
    rest->settings = parts->settings;
    DroverRestApi *api = &rest->api;
    api->context = parts->context;
    api->producer = parts->producer;
    api->server = parts->server;
    api->intake = parts->intake;
    api->job_is_stopped = parts->job_is_stopped;
    api->job_data = parts->job_data;
    api->device_slots = (unsigned)parts->settings->device_slots;
    api->keyring = keyring;
    api->most_waiting = (unsigned)MAX(parts->settings->connections / 2, 1);
    api->metrics = drover_rest_metrics_new();
    api->rate =
        drover_rest_rate_new((double)parts->settings->rate, (unsigned)parts->settings->burst, CALLERS);
    g_mutex_init(&api->rate_lock);
    api->view = drover_rest_view_new(operations);
    drover_rest_view_on_end(api->view, on_operation_end, api->metrics);
    drover_journal_observe(api->context->journal, drover_rest_view_seen, api->view);
    drover_cloudstack_observe(api->context->cloud, on_cloud_answer, api->metrics);
    return rest;
}

bool drover_rest_start(DroverRest *rest, GError **error)
{
    if (!rest)
        return true;
    rest->server = drover_rest_server_start(rest->settings, &rest->api, error);
    return rest->server != NULL;
}

void drover_rest_count_difference(DroverRest *rest, const char *kind, bool repaired)
{
    if (!rest)
        return;
    g_autofree char *labels = drover_rest_labels("kind", kind, "repaired", repaired ? "yes" : "no", NULL);
    drover_rest_metrics_add(rest->api.metrics, "drover_agent_differences_total", labels, 1);
}

void drover_rest_free(DroverRest *rest)
{
    if (!rest)
        return;
    DroverRestApi *api = &rest->api;
    drover_rest_server_stop(rest->server);
    drover_journal_observe(api->context->journal, NULL, NULL);
    drover_cloudstack_observe(api->context->cloud, NULL, NULL);
    drover_rest_view_free(api->view);
    drover_rest_rate_free(api->rate);
    drover_rest_metrics_free(api->metrics);
    drover_rest_keyring_free(api->keyring);
    g_mutex_clear(&api->rate_lock);
    g_free(rest);
}
