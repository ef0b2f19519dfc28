/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/kafka/internal.h"

#include <string.h>

#include "lib/base/log.h"

static bool read_properties(DroverKafka *kafka, const char *path, GError **error)
{
    g_autofree char *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, error)) {
        g_prefix_error(error, "[kafka] properties: ");
        return false;
    }
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (int i = 0; lines[i]; i++) {
        char *line = g_strstrip(lines[i]);
        if (!*line || *line == '#')
            continue;
        char *equals = strchr(line, '=');
        if (!equals)
            return drover_fail(error, DROVER_ERROR_PERMANENT, "%s:%d: expected property=value", path, i + 1);
        *equals = '\0';
        char *name = g_strstrip(line);
        char message[256];
        rd_kafka_conf_t *probe = rd_kafka_conf_new();
        rd_kafka_conf_res_t result = rd_kafka_conf_set(probe, name, g_strstrip(equals + 1), message, sizeof message);
        rd_kafka_conf_destroy(probe);
        if (result != RD_KAFKA_CONF_OK)
            return drover_fail(error, DROVER_ERROR_PERMANENT, "%s:%d: librdkafka refuses '%s'", path, i + 1, name);
        g_hash_table_replace(kafka->extra, g_strdup(name), g_strdup(equals + 1));
    }
    return true;
}

DroverKafka *drover_kafka_new(const DroverConfig *config, const char *process_id, GError **error)
{
    g_autoptr(DroverKafka) kafka = g_new0(DroverKafka, 1);
    kafka->brokers = g_strdup(drover_config_string(config, "kafka.brokers"));
    kafka->prefix = g_strdup(drover_config_string(config, "kafka.topic-prefix"));
    kafka->process_id = g_strdup(process_id);
    kafka->session_timeout_ms = drover_config_int(config, "kafka.session-timeout");
    kafka->transaction_timeout_ms = drover_config_int(config, "kafka.transaction-timeout");
    kafka->extra = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    const char *properties = drover_config_string(config, "kafka.properties");
    if (*properties && !read_properties(kafka, properties, error))
        return NULL;
    return g_steal_pointer(&kafka);
}

void drover_kafka_free(DroverKafka *kafka)
{
    if (!kafka)
        return;
    g_free(kafka->brokers);
    g_free(kafka->prefix);
    g_free(kafka->process_id);
    g_hash_table_unref(kafka->extra);
    g_free(kafka);
}

char *drover_kafka_topic(const DroverKafka *kafka, const char *topic)
{
    g_assert(g_str_has_prefix(topic, "drover."));
    return g_strconcat(kafka->prefix, topic + strlen("drover"), NULL);
}

char *drover_kafka_local_topic(const DroverKafka *kafka, const char *wire)
{
    size_t len = strlen(kafka->prefix);
    if (strncmp(wire, kafka->prefix, len) == 0)
        wire += len;
    return g_strconcat("drover", wire, NULL);
}

static void on_log(const rd_kafka_t *client, int level, const char *facility, const char *text)
{
    (void)client;
    drover_debug("kafka.client", text, F_S("facility", facility), F_I("syslog_level", level));
}

static void on_error(rd_kafka_t *client, int code, const char *reason, void *opaque)
{
    (void)opaque;
    /* Transport errors heal by themselves; who waits for something reports its own time-out. */
    DroverLogLevel level = rd_kafka_fatal_error(client, NULL, 0) ? DROVER_LOG_ERROR : DROVER_LOG_DEBUG;
    DROVER_LOG(level, "kafka.error", reason, F_S("code", rd_kafka_err2name((rd_kafka_resp_err_t)code)));
}

void drover_kafka_set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char message[256];
    if (rd_kafka_conf_set(conf, name, value, message, sizeof message) != RD_KAFKA_CONF_OK)
        g_error("librdkafka: %s", message);
}

rd_kafka_conf_t *drover_kafka_base_conf(const DroverKafka *kafka)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    drover_kafka_set(conf, "bootstrap.servers", kafka->brokers);
    drover_kafka_set(conf, "client.id", kafka->process_id);
    drover_kafka_set(conf, "topic.metadata.refresh.interval.ms", "30000");
    drover_kafka_set(conf, "reconnect.backoff.ms", "50");
    drover_kafka_set(conf, "reconnect.backoff.max.ms", "1000");
    drover_kafka_set(conf, "socket.keepalive.enable", "true");
    drover_kafka_set(conf, "log.connection.close", "false");
    GHashTableIter iter;
    gpointer name, value;
    g_hash_table_iter_init(&iter, kafka->extra);
    while (g_hash_table_iter_next(&iter, &name, &value))
        drover_kafka_set(conf, name, value);
    rd_kafka_conf_set_log_cb(conf, on_log);
    rd_kafka_conf_set_error_cb(conf, on_error);
    return conf;
}

rd_kafka_t *drover_kafka_client(rd_kafka_type_t type, rd_kafka_conf_t *conf, GError **error)
{
    char message[512];
    rd_kafka_t *client = rd_kafka_new(type, conf, message, sizeof message);
    if (!client) {
        rd_kafka_conf_destroy(conf);
        drover_fail(error, DROVER_ERROR_PERMANENT, "Kafka client cannot be made: %s", message);
    }
    return client;
}

static DroverErrorClass class_of(rd_kafka_resp_err_t code)
{
    switch (code) {
    case RD_KAFKA_RESP_ERR__FENCED:
    case RD_KAFKA_RESP_ERR_PRODUCER_FENCED:
    case RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH:
    case RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID:
        return DROVER_ERROR_FENCED;
    case RD_KAFKA_RESP_ERR__FATAL:
        return DROVER_ERROR_FATAL;
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_INVALID_SESSION_TIMEOUT: /* the broker's group.min.session.timeout.ms says what is allowed */
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
        return DROVER_ERROR_PERMANENT;
    default:
        return DROVER_ERROR_RETRYABLE;
    }
}

bool drover_kafka_fail(GError **error, rd_kafka_resp_err_t code, const char *what, const char *detail)
{
    return drover_fail(error, class_of(code), "%s: %s%s%s", what, rd_kafka_err2str(code), detail && *detail ? ": " : "",
                       detail ? detail : "");
}
