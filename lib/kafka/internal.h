/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of lib/kafka share; not for others. */
#ifndef DROVER_LIB_KAFKA_INTERNAL_H
#define DROVER_LIB_KAFKA_INTERNAL_H

#include <librdkafka/rdkafka.h>

#include "lib/base/error.h"
#include "lib/kafka/kafka.h"

struct DroverKafka {
    char *brokers;
    char *prefix;
    char *process_id;
    GHashTable *extra; /* property -> value */
    int64_t session_timeout_ms;
    int64_t transaction_timeout_ms;
};

/* A configuration with what all clients share; the caller owns it until rd_kafka_new takes it. */
rd_kafka_conf_t *drover_kafka_base_conf(const DroverKafka *kafka);
/* Sets one property; a refused one is a programming error. */
void drover_kafka_set(rd_kafka_conf_t *conf, const char *name, const char *value);
/* rd_kafka_new with the error explained; takes CONF. */
rd_kafka_t *drover_kafka_client(rd_kafka_type_t type, rd_kafka_conf_t *conf, GError **error);
/* "drover.x" for a name on the wire; newly allocated. */
char *drover_kafka_local_topic(const DroverKafka *kafka, const char *wire);
/* Sets ERROR from a librdkafka code, with its class; WHAT says what was tried. Returns false. */
bool drover_kafka_fail(GError **error, rd_kafka_resp_err_t code, const char *what, const char *detail);

#endif
