/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/operations/call.h"

#include <string.h>

#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "lib/base/log.h"

#define FIRST_POLL_MS 100
#define LONGEST_POLL_MS 2000

bool drover_op_journal(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    operation->updated_at_ms = drover_now_ms();
    DroverJournalEntry entry = {g_strconcat("op/", operation->asked->operation_id, NULL),
                                drover_operation_pack(operation, context->agent, context->instance_id)};
    if (drover_journal_write(context->journal, &entry, 1))
        return true;
    return drover_fail(error, DROVER_ERROR_FATAL, "The journal of this agent is lost");
}

bool drover_op_claim(const DroverOpContext *context, DroverOperation *operation, const char *id, GError **error)
{
    if (!context->claim || context->claim(context->claim_data, operation, id))
        return true;
    return drover_fail(error, DROVER_ERROR_RETRYABLE, "Another operation is at work on %s", id);
}

bool drover_op_sleep(const DroverOpContext *context, int64_t ms, GError **error)
{
    gint64 until = g_get_monotonic_time() + ms * 1000;
    while (!context->stopping() && g_get_monotonic_time() < until)
        g_usleep((gulong)CLAMP(until - g_get_monotonic_time(), 1000, 50000));
    if (context->stopping())
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "The agent is stopping");
    return true;
}

void drover_op_clear_intent(DroverOperation *operation)
{
    operation->state = DROVER__V1__OPERATION_STATE__OPERATION_STATE_ACCEPTED;
    drover_set_text(&operation->cloud_job_id, "");
    operation->intent_expires_at_ms = 0;
}

bool drover_op_await_job(const DroverOpContext *context, DroverOperation *operation, json_t **result, GError **error)
{
    int64_t deadline_ms = drover_boottime_ms() + context->job_timeout_ms;
    for (int64_t pause_ms = FIRST_POLL_MS;; pause_ms = MIN(pause_ms * 3 / 2, LONGEST_POLL_MS)) {
        if (!drover_op_sleep(context, pause_ms, error))
            return false;
        g_autoptr(GError) why = NULL;
        json_t *inner = NULL;
        switch (drover_cloudstack_job(context->cloud, operation->cloud_job_id, &inner, &why)) {
        case DROVER_CLOUD_JOB_DONE:
            drover_op_clear_intent(operation);
            operation->step++;
            if (result)
                *result = inner;
            else
                json_decref(inner);
            return true;
        case DROVER_CLOUD_JOB_FAILED:
            drover_op_clear_intent(operation);
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        case DROVER_CLOUD_JOB_LOST:
            drover_fail(error, DROVER_ERROR_RETRYABLE,
                        "CloudStack %s: job %s vanished, as after a restart of the management server", operation->command,
                        operation->cloud_job_id);
            if (context->differs)
                context->differs(context->differs_data, "job-vanished", drover_operation_volume_id(operation),
                                 drover_operation_vm_id(operation), "A job of CloudStack vanished; its operation asks what came of it", true);
            drover_op_clear_intent(operation);
            return false;
        case DROVER_CLOUD_JOB_RUNNING:
            break;
        }
        if (drover_boottime_ms() > deadline_ms)
            return drover_fail(error, DROVER_ERROR_RETRYABLE, "CloudStack %s: job %s is not done after %" G_GINT64_FORMAT " s%s%s",
                               operation->command, operation->cloud_job_id, context->job_timeout_ms / 1000, why ? ": " : "",
                               why ? why->message : "");
    }
}

/* What a changing call works on: they name it as "id" or "volumeid", or as "customid" when it is yet to be made. */
static const char *object_of(const char *const *parameters)
{
    const char *id = "";
    for (; parameters[0]; parameters += 2) {
        if (strcmp(parameters[0], "customid") == 0)
            return parameters[1];
        if (strcmp(parameters[0], "id") == 0 || strcmp(parameters[0], "volumeid") == 0)
            id = parameters[1];
    }
    return id;
}

/* Until enough of the signature's life is left to send it: the journal may have taken its time. */
static bool journal_intent(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    drover_set_text(&operation->cloud_job_id, "");
    operation->state = DROVER__V1__OPERATION_STATE__OPERATION_STATE_INTENT;
    do {
        if (context->stopping()) {
            drover_op_clear_intent(operation);
            return drover_fail(error, DROVER_ERROR_RETRYABLE, "The agent is stopping");
        }
        operation->intent_at_ms = drover_now_ms();
        operation->intent_expires_at_ms = operation->intent_at_ms + context->call_expiry_ms;
        if (!drover_op_journal(context, operation, error))
            return false;
    } while (drover_now_ms() > operation->intent_at_ms + context->call_expiry_ms / 2);
    return true;
}

bool drover_op_call(const DroverOpContext *context, DroverOperation *operation, const char *command,
                    const char *const *parameters, json_t **result, GError **error)
{
    drover_set_text(&operation->command, command);
    drover_set_text(&operation->object_id, object_of(parameters));
    if (!journal_intent(context, operation, error))
        return false;
    drover_info("cloudstack.call", command, F_S("operation_id", operation->asked->operation_id),
                F_S("job_id", operation->asked->job_id));
    DroverCloudFailure failure;
    json_t *answer = drover_cloudstack_call(context->cloud, command, operation->intent_expires_at_ms, parameters, &failure, error);
    if (!answer) {
        if (!failure.maybe_done)
            drover_op_clear_intent(operation);
        return false;
    }
    const char *job = drover_json_text(answer, "jobid");
    if (!*job) {
        drover_op_clear_intent(operation);
        operation->step++;
        if (result)
            *result = answer;
        else
            json_decref(answer);
        return true;
    }
    drover_set_text(&operation->cloud_job_id, job);
    json_decref(answer);
    operation->state = DROVER__V1__OPERATION_STATE__OPERATION_STATE_WAITING;
    if (!drover_op_journal(context, operation, error))
        return false;
    return drover_op_await_job(context, operation, result, error);
}
