/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include <jansson.h>

#include "cli/session.h"
#include "drover/v1/job.pb-c.h"
#include "lib/base/ids.h"

#define TOPIC "drover.dlq"

static void print_letter(const DroverRecord *record, const Drover__V1__DeadLetter *d, bool json)
{
    g_autofree char *at = drover_iso8601(d->at_ms);
    if (!json) {
        g_print("%s  %s/%d offset %" G_GINT64_FORMAT "  key %s  read by %s\n    %s (%zu bytes)\n", at, d->topic,
                d->partition, d->offset, record->key ? record->key : "-", d->consumer, d->reason, d->payload.len);
        return;
    }
    g_autofree char *payload = g_base64_encode(d->payload.data, d->payload.len);
    json_t *o = json_pack("{s:s, s:s, s:i, s:I, s:s, s:s, s:s, s:s}", "at", at, "topic", d->topic, "partition",
                          (int)d->partition, "offset", (json_int_t)d->offset, "key", record->key ? record->key : "",
                          "consumer", d->consumer, "reason", d->reason, "payload_base64", payload);
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    if (text)
        g_print("%s\n", text);
    free(text);
    json_decref(o);
}

static DroverExitCode run(const DroverCommand *command, int argc, char **argv)
{
    gboolean json = FALSE;
    const GOptionEntry flags[] = {
        {"json", 0, 0, G_OPTION_ARG_NONE, &json, "One JSON object a line, with the message itself in base64", NULL},
        {NULL},
    };
    g_auto(DroverSession) session = {0};
    g_autoptr(GError) error = NULL;
    DroverExitCode code;
    if (!drover_session_open(&session, command, flags, argc, argv, 0, 0, &code))
        return code;
    if (!drover_session_kafka(&session, &error))
        return drover_session_fail(&session, error);
    g_autoptr(DroverConsumer) consumer = drover_consumer_new_manual(session.kafka, &error);
    if (!consumer || !drover_consumer_assign_topic(consumer, TOPIC, DROVER_OFFSET_BEGINNING, 10000, &error))
        return drover_session_fail(&session, error);
    guint count = 0;
    while (!drover_consumer_at_end(consumer)) {
        g_autoptr(DroverRecord) record = drover_consumer_poll(consumer, 10000, &error);
        if (error)
            return drover_session_fail(&session, error);
        Drover__V1__DeadLetter *d =
            record && record->value ? drover__v1__dead_letter__unpack(NULL, record->len, record->value) : NULL;
        if (d) {
            count++;
            print_letter(record, d, json);
            drover__v1__dead_letter__free_unpacked(d, NULL);
        }
    }
    if (!count && !json)
        g_print("No dead letters.\n");
    return DROVER_EXIT_OK;
}

const DroverCommand drover_command_dlq = {
    .name = "dlq",
    .synopsis = "",
    .summary = "list messages that could not be read or applied",
    .description = "Lists the topic drover.dlq: what was put aside, where it stood, who could not read it, and why.",
    .run = run,
};
