/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/send.h"

#include "lib/base/ids.h"
#include "lib/kafka/kafka.h"

#define ANSWER_MS 5000
#define ACKNOWLEDGE_MS 15000

/* A producer would try for the whole time; a question shows sooner that nobody is there, or that the topic is missing. */
static bool topic_is_there(const DroverKafka *kafka, GError **error)
{
    g_autoptr(DroverConsumer) consumer = drover_consumer_new_manual(kafka, error);
    return consumer && drover_kafka_partition_count(consumer, "drover.jobs", ANSWER_MS, error) > 0;
}

bool drover_send(DroverSession *session, Drover__V1__JobCommand *command, GError **error)
{
    if (!session->kafka && !drover_session_kafka(session, error))
        return false;
    g_autofree char *command_id = drover_id_new("cmd-");
    g_autofree char *submitter = g_strdup_printf("%s@%s", g_get_user_name(), g_get_host_name());
    command->command_id = command_id;
    command->submitter = submitter;
    command->submitted_at_ms = drover_now_ms();
    g_autoptr(DroverProducer) producer =
        topic_is_there(session->kafka, error) ? drover_producer_new(session->kafka, error) : NULL;
    bool ok = producer && drover_producer_send_sync(producer, "drover.jobs", DROVER_PARTITION_BY_KEY, command->job_id,
                                                    &command->base, ACKNOWLEDGE_MS, error);
    if (!ok)
        g_prefix_error(error, "Nothing was accepted. Kafka at %s ([kafka] brokers): ",
                       drover_config_string(session->config, "kafka.brokers"));
    command->command_id = command->submitter = (char *)protobuf_c_empty_string;
    return ok;
}

DroverExitCode drover_send_for_job(DroverSession *session, const char *job_id, Drover__V1__JobCommand *command,
                                   const char *said)
{
    if (!drover_id_is_valid(job_id))
        return drover_session_usage(session, "'%s' is no job id: 1 to 64 of letters, digits, '.', '_', '-'", job_id);
    command->job_id = (char *)job_id;
    g_autoptr(GError) error = NULL;
    if (!drover_send(session, command, &error))
        return drover_session_fail(session, error);
    g_print("%s: %s\n", job_id, said);
    return DROVER_EXIT_OK;
}
