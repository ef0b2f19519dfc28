/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/kafka/kafka.h"

#include "drover/v1/job.pb-c.h"
#include "lib/base/ids.h"
#include "lib/base/log.h"

#define DLQ_PAYLOAD_MAX (256u << 10)

bool drover_dlq_send(DroverProducer *producer, const DroverRecord *record, const char *consumer_id, const char *reason,
                     GError **error)
{
    drover_warning("record.poison", reason, F_S("topic", record->topic), F_I("partition", record->partition),
                   F_I("offset", record->offset), F_S("key", record->key), F_U("bytes", record->len));
    Drover__V1__DeadLetter letter = DROVER__V1__DEAD_LETTER__INIT;
    letter.topic = record->topic;
    letter.partition = record->partition;
    letter.offset = record->offset;
    letter.consumer = (char *)consumer_id;
    letter.reason = (char *)reason;
    letter.payload.data = record->value;
    letter.payload.len = record->value ? MIN(record->len, DLQ_PAYLOAD_MAX) : 0;
    letter.at_ms = drover_now_ms();
    return drover_producer_send_pb(producer, "drover.dlq", DROVER_PARTITION_BY_KEY, record->key, &letter.base, NULL,
                                   NULL, error);
}
