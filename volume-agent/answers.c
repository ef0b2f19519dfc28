/* SPDX-License-Identifier: Apache-2.0 */
#include "drover/v1/event.pb-c.h"
#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "lib/base/log.h"
#include "volume-agent/agent.h"
#include "volume-agent/stopped.h"

static char *locate(void *data, const char *volume_id, uint64_t generation, GError **error)
{
    DroverAgent *agent = data;
    g_autoptr(DroverExportRecord) record = drover_export_book_find(agent->book, volume_id);
    if (!record || record->generation != generation) {
        drover_fail(error, DROVER_ERROR_FENCED, "Volume %s: generation %" G_GUINT64_FORMAT " is not open here", volume_id,
                    generation);
        return NULL;
    }
    if (!*record->device_path) {
        drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-DEVICE-MISSING: volume %s has no device on the appliance", volume_id);
        return NULL;
    }
    return g_strdup(record->device_path);
}

bool drover_agent_job_is_stopped(void *data, const char *job_id)
{
    DroverAgent *agent = data;
    return drover_stopped_has(agent->stopped, job_id);
}

static void answer(void *data, const DroverVerifyRequest *request, const DroverVerifyOutcome *outcome)
{
    DroverAgent *agent = data;
    g_autofree char *code = drover_error_code(outcome->error ? outcome->error->message : NULL);
    Drover__V1__Error error = DROVER__V1__ERROR__INIT;
    Drover__V1__VerifyResult result = DROVER__V1__VERIFY_RESULT__INIT;
    result.volume_id = request->volume_id;
    result.generation = request->generation;
    result.sequence = request->sequence;
    result.verified_cells = (uint64_t *)(void *)outcome->verified->data;
    result.n_verified_cells = outcome->verified->len;
    result.mismatched_cells = (uint64_t *)(void *)outcome->mismatched->data;
    result.n_mismatched_cells = outcome->mismatched->len;
    result.read_bytes = outcome->read_bytes;
    if (outcome->error) {
        error.error_class = (Drover__V1__ErrorClass)drover_error_class(outcome->error);
        error.code = code;
        error.message = outcome->error->message;
        result.error = &error;
        drover_warning("verify.failed", outcome->error->message, F_S("job_id", request->job_id),
                       F_S("volume_id", request->volume_id));
    }
    for (guint i = 0; i < outcome->mismatched->len; i++)
        drover_error("verify.mismatch", "What was read back differs from the source", F_S("job_id", request->job_id),
                     F_S("disk_id", request->disk_id), F_U("cell", g_array_index(outcome->mismatched, uint64_t, i)));
    Drover__V1__Event event = DROVER__V1__EVENT__INIT;
    event.job_id = request->job_id;
    event.disk_id = request->disk_id;
    event.task_id = request->task_id;
    event.attempt = request->attempt;
    event.round = request->round;
    event.process_id = (char *)agent->name;
    event.instance_id = agent->instance_id;
    event.at_ms = drover_now_ms();
    event.body_case = DROVER__V1__EVENT__BODY_VERIFIED;
    event.verified = &result;
    g_autoptr(GError) failure = NULL;
    if (!drover_producer_send_pb(agent->producer, agent->events_topic, DROVER_PARTITION_BY_KEY, request->job_id, &event.base,
                                 NULL, NULL, &failure))
        drover_error("verify.answer_lost", failure->message, F_S("job_id", request->job_id)); /* the leader asks again */
}

DroverVerifyCallbacks drover_agent_verify_callbacks(DroverAgent *agent)
{
    return (DroverVerifyCallbacks){agent, locate, answer, drover_agent_job_is_stopped};
}

void drover_agent_release_device(void *data, const char *volume_id)
{
    DroverAgent *agent = data;
    drover_verifier_release(agent->verifier, volume_id);
}
