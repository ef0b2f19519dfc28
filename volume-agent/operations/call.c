/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/operations/call.h"

#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "lib/base/log.h"
#include "volume-agent/operations/look.h"

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

bool drover_op_sleep(const DroverOpContext *context, int64_t ms, GError **error)
{
    gint64 until = g_get_monotonic_time() + ms * 1000;
    while (!context->stopping() && g_get_monotonic_time() < until)
        g_usleep((gulong)CLAMP(until - g_get_monotonic_time(), 1000, 50000));
    if (context->stopping())
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "The agent is stopping");
    return true;
}

/* Waits for the async job of OPERATION. A lost one is a RETRYABLE error: look again. */
static bool await_job(const DroverOpContext *context, const DroverOperation *operation, json_t **result, GError **error)
{
    int64_t deadline_ms = drover_boottime_ms() + context->job_timeout_ms;
    for (int64_t pause_ms = FIRST_POLL_MS;; pause_ms = MIN(pause_ms * 3 / 2, LONGEST_POLL_MS)) {
        if (!drover_op_sleep(context, pause_ms, error))
            return false;
        g_autoptr(GError) why = NULL;
        json_t *inner = NULL;
        switch (drover_cloudstack_job(context->cloud, operation->cloud_job_id, &inner, &why)) {
        case DROVER_CLOUD_JOB_DONE:
            if (result)
                *result = inner;
            else
                json_decref(inner);
            return true;
        case DROVER_CLOUD_JOB_FAILED:
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        case DROVER_CLOUD_JOB_LOST:
            return drover_fail(error, DROVER_ERROR_RETRYABLE,
                               "CloudStack %s: job %s vanished, as after a restart of the management server", operation->command,
                               operation->cloud_job_id);
        case DROVER_CLOUD_JOB_RUNNING:
            break;
        }
        if (drover_boottime_ms() > deadline_ms)
            return drover_fail(error, DROVER_ERROR_RETRYABLE, "CloudStack %s: job %s is not done after %" G_GINT64_FORMAT " s%s%s",
                               operation->command, operation->cloud_job_id, context->job_timeout_ms / 1000, why ? ": " : "",
                               why ? why->message : "");
    }
}

/* The call is over, for good or bad: nothing of it is under way. */
static void clear_intent(DroverOperation *operation)
{
    operation->state = DROVER__V1__OPERATION_STATE__OPERATION_STATE_ACCEPTED;
    drover_set_text(&operation->cloud_job_id, "");
    operation->intent_expires_at_ms = 0;
}

bool drover_op_call(const DroverOpContext *context, DroverOperation *operation, const char *command,
                    const char *const *parameters, json_t **result, GError **error)
{
    drover_set_text(&operation->command, command);
    drover_set_text(&operation->cloud_job_id, "");
    operation->state = DROVER__V1__OPERATION_STATE__OPERATION_STATE_INTENT;
    operation->intent_at_ms = drover_now_ms();
    operation->intent_expires_at_ms = operation->intent_at_ms + context->call_expiry_ms;
    if (!drover_op_journal(context, operation, error))
        return false;
    drover_info("cloudstack.call", command, F_S("operation_id", operation->asked->operation_id),
                F_S("job_id", operation->asked->job_id));
    DroverCloudFailure failure;
    json_t *answer = drover_cloudstack_call(context->cloud, command, operation->intent_expires_at_ms, parameters, &failure, error);
    if (!answer) {
        if (!failure.maybe_done)
            clear_intent(operation);
        return false;
    }
    const char *job = drover_json_text(answer, "jobid");
    if (!*job) {
        clear_intent(operation);
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
    g_autoptr(GError) why = NULL;
    bool ok = await_job(context, operation, result, &why);
    if (ok || !context->stopping())
        clear_intent(operation);
    if (!ok)
        g_propagate_error(error, g_steal_pointer(&why));
    return ok;
}

/* After an intent of which no job is known: the server may still get the call until its signature dies. */
static bool wait_out_intent(const DroverOpContext *context, const DroverOperation *operation, GError **error)
{
    int64_t left_ms = operation->intent_expires_at_ms - drover_now_ms();
    /* Clocks that were set back must not keep us waiting for ever. */
    left_ms = CLAMP(left_ms, 0, context->call_expiry_ms);
    if (left_ms > 0)
        drover_info("operation.wait_out", "Waiting until a call of an earlier life can have no effect any more",
                    F_S("operation_id", operation->asked->operation_id), F_S("command", operation->command),
                    F_I("ms", left_ms));
    if (!drover_op_sleep(context, left_ms, error))
        return false;
    /* It may have been accepted and wait its turn. */
    const char *volume = drover_operation_volume_id(operation), *vm = drover_operation_vm_id(operation);
    return (!*volume || drover_look_until_idle(context, volume, error)) &&
           (!*vm || drover_look_until_idle(context, vm, error)) &&
           (!drover_operation_uses_appliance(operation) || drover_look_until_idle(context, context->appliance_vm_id, error));
}

bool drover_op_settle(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    if (operation->state == DROVER__V1__OPERATION_STATE__OPERATION_STATE_WAITING) {
        g_autoptr(GError) why = NULL;
        /* However it ended, looking tells what is the case now. */
        if (!await_job(context, operation, NULL, &why))
            drover_info("operation.job_ended", why->message, F_S("operation_id", operation->asked->operation_id));
        if (context->stopping())
            return drover_fail(error, DROVER_ERROR_RETRYABLE, "The agent is stopping");
    } else if (operation->state == DROVER__V1__OPERATION_STATE__OPERATION_STATE_INTENT &&
               !wait_out_intent(context, operation, error)) {
        return false;
    }
    clear_intent(operation);
    return true;
}
