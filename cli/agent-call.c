/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/agent-call.h"

#include <string.h>

#include "drover/v1/task.pb-c.h"
#include "lib/base/error.h"
#include "lib/base/ids.h"

#define METADATA_MS 5000
#define ACKNOWLEDGE_MS 15000
#define POLL_MS 200

const char *drover_agent_choose(const DroverSession *session, const char *wanted, GError **error)
{
    const char *const *agents = drover_config_list(session->config, "fleet.agents");
    g_autofree char *list = g_strjoinv(", ", (char **)agents);
    if (wanted && *wanted) {
        for (const char *const *agent = agents; *agent; agent++)
            if (strcmp(*agent, wanted) == 0)
                return *agent;
        drover_fail(error, DROVER_ERROR_PERMANENT, "There is no agent '%s' among [fleet] agents: %s", wanted, list);
        return NULL;
    }
    if (agents[0] && !agents[1])
        return agents[0];
    drover_fail(error, DROVER_ERROR_PERMANENT, "Name a volume agent with --agent; [fleet] agents has %s", *list ? list : "none");
    return NULL;
}

/* Where the journal ends now, so that the answer cannot be missed. */
static DroverConsumer *at_the_end(DroverSession *session, const char *topic, int64_t deadline_ms, GError **error)
{
    g_autoptr(DroverConsumer) consumer = drover_consumer_new_manual(session->kafka, error);
    if (!consumer || !drover_consumer_assign_topic(consumer, topic, DROVER_OFFSET_END, METADATA_MS, error))
        return NULL;
    while (!drover_consumer_at_end(consumer)) {
        g_autoptr(GError) why = NULL;
        g_autoptr(DroverRecord) record = drover_consumer_poll(consumer, POLL_MS, &why);
        if (why && (drover_error_class(why) != DROVER_ERROR_RETRYABLE || drover_boottime_ms() > deadline_ms)) {
            g_propagate_error(error, g_steal_pointer(&why));
            return NULL;
        }
        if (drover_boottime_ms() > deadline_ms) {
            drover_fail(error, DROVER_ERROR_RETRYABLE, "The end of %s was not found in time", topic);
            return NULL;
        }
    }
    return g_steal_pointer(&consumer);
}

static bool send(DroverSession *session, const char *agent, Drover__V1__VolumeOperation *operation, GError **error)
{
    g_autofree char *topic = g_strconcat("drover.tasks.", agent, NULL);
    Drover__V1__Task task = DROVER__V1__TASK__INIT;
    task.task_id = operation->operation_id;
    task.job_id = operation->job_id;
    task.attempt = 1;
    task.created_at_ms = operation->requested_at_ms;
    task.body_case = DROVER__V1__TASK__BODY_OPERATION;
    task.operation = operation;
    g_autoptr(DroverProducer) producer = drover_producer_new(session->kafka, error);
    return producer && drover_producer_send_sync(producer, topic, DROVER_PARTITION_BY_KEY, operation->job_id, &task.base,
                                                 ACKNOWLEDGE_MS, error);
}

static bool is_end(const Drover__V1__JournalRecord *record)
{
    return record->record_case == DROVER__V1__JOURNAL_RECORD__RECORD_OPERATION &&
           (record->operation->state == DROVER__V1__OPERATION_STATE__OPERATION_STATE_DONE ||
            record->operation->state == DROVER__V1__OPERATION_STATE__OPERATION_STATE_FAILED);
}

static Drover__V1__JournalRecord *await(DroverConsumer *journal, const char *agent, const char *operation_id, int64_t deadline_ms,
                                        GError **error)
{
    g_autofree char *key = g_strconcat("op/", operation_id, NULL);
    while (drover_boottime_ms() < deadline_ms) {
        g_autoptr(GError) why = NULL;
        g_autoptr(DroverRecord) record = drover_consumer_poll(journal, POLL_MS, &why);
        if (why && drover_error_class(why) != DROVER_ERROR_RETRYABLE) {
            g_propagate_error(error, g_steal_pointer(&why));
            return NULL;
        }
        if (!record || !record->value || g_strcmp0(record->key, key) != 0)
            continue;
        Drover__V1__JournalRecord *found = drover__v1__journal_record__unpack(NULL, record->len, record->value);
        if (found && is_end(found))
            return found;
        if (found)
            drover__v1__journal_record__free_unpacked(found, NULL);
    }
    drover_fail(error, DROVER_ERROR_RETRYABLE,
                "DRV-AGENT-SILENT: volume agent %s did not answer in time: does it run (drover fleet), and does it reach CloudStack?",
                agent);
    return NULL;
}

Drover__V1__JournalRecord *drover_agent_call(DroverSession *session, const char *agent, Drover__V1__VolumeOperation *operation,
                                             int64_t timeout_ms, GError **error)
{
    int64_t deadline_ms = drover_boottime_ms() + timeout_ms;
    if (!session->kafka && !drover_session_kafka(session, error))
        return NULL;
    g_autofree char *id = drover_id_new("cli-");
    g_autofree char *who = g_strdup_printf("cli/%s@%s", g_get_user_name(), g_get_host_name());
    g_autofree char *topic = g_strconcat("drover.journal.", agent, NULL);
    operation->operation_id = operation->job_id = id;
    operation->requested_by = who;
    operation->requested_at_ms = drover_now_ms();
    g_autoptr(DroverConsumer) journal = at_the_end(session, topic, deadline_ms, error);
    Drover__V1__JournalRecord *found =
        journal && send(session, agent, operation, error) ? await(journal, agent, id, deadline_ms, error) : NULL;
    operation->operation_id = operation->job_id = operation->requested_by = (char *)protobuf_c_empty_string;
    return found;
}
