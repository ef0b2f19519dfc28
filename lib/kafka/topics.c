/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/kafka/internal.h"

#include <cyaml/cyaml.h>
#include <string.h>

#define ADMIN_TIMEOUT_MS 15000

/* ---- the file ------------------------------------------------------------------------------------------------- */

typedef struct {
    char *name;
    char *value;
} Setting;

typedef struct {
    char *name;
    int partitions;
    int replication;
    GPtrArray *settings; /* Setting */
} Topic;

static void setting_free(gpointer data)
{
    Setting *s = data;
    g_free(s->name);
    g_free(s->value);
    g_free(s);
}

static void topic_free(gpointer data)
{
    Topic *t = data;
    g_free(t->name);
    g_ptr_array_unref(t->settings);
    g_free(t);
}

/* The settings that may stand in `config`, by their names at the broker. */
typedef struct {
    char *cleanup_policy;
    char *retention_ms;
    char *segment_bytes;
    char *max_compaction_lag_ms;
    char *max_message_bytes;
    char *min_insync_replicas;
} FileConfig;

typedef struct {
    char *name;
    uint32_t partitions;
    uint32_t replication;
    FileConfig *config;
} FileTopic;

typedef struct {
    FileTopic *topics;
    unsigned topics_count;
} File;

static const struct {
    const char *name;
    size_t offset;
} settings_known[] = {
    {"cleanup.policy", offsetof(FileConfig, cleanup_policy)},
    {"retention.ms", offsetof(FileConfig, retention_ms)},
    {"segment.bytes", offsetof(FileConfig, segment_bytes)},
    {"max.compaction.lag.ms", offsetof(FileConfig, max_compaction_lag_ms)},
    {"max.message.bytes", offsetof(FileConfig, max_message_bytes)},
    {"min.insync.replicas", offsetof(FileConfig, min_insync_replicas)},
};

#define SETTING(key, member)                                                                                          \
    CYAML_FIELD_STRING_PTR(key, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, FileConfig, member, 1, 100)

static const cyaml_schema_field_t config_fields[] = {
    SETTING("cleanup.policy", cleanup_policy),
    SETTING("retention.ms", retention_ms),
    SETTING("segment.bytes", segment_bytes),
    SETTING("max.compaction.lag.ms", max_compaction_lag_ms),
    SETTING("max.message.bytes", max_message_bytes),
    SETTING("min.insync.replicas", min_insync_replicas),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t topic_fields[] = {
    CYAML_FIELD_STRING_PTR("name", CYAML_FLAG_POINTER, FileTopic, name, 1, 200),
    CYAML_FIELD_UINT("partitions", CYAML_FLAG_DEFAULT, FileTopic, partitions),
    CYAML_FIELD_UINT("replication", CYAML_FLAG_OPTIONAL, FileTopic, replication),
    CYAML_FIELD_MAPPING_PTR("config", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, FileTopic, config, config_fields),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t topic_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, FileTopic, topic_fields),
};

static const cyaml_schema_field_t file_fields[] = {
    CYAML_FIELD_SEQUENCE("topics", CYAML_FLAG_POINTER, File, topics, &topic_schema, 1, 1000),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t file_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, File, file_fields),
};

static void keep_message(cyaml_log_t level, void *ctx, const char *format, va_list args)
{
    GString *out = ctx;
    if (level < CYAML_LOG_ERROR)
        return;
    g_string_append_vprintf(out, format, args);
}

static char *replace(const char *text, const char *what, const char *with)
{
    g_auto(GStrv) parts = g_strsplit(text, what, -1);
    return g_strjoinv(with, parts);
}

static void add_topic(GPtrArray *topics, const FileTopic *from, char *name)
{
    Topic *t = g_new0(Topic, 1);
    t->name = name;
    t->partitions = (int)from->partitions;
    t->replication = from->replication ? (int)from->replication : -1;
    t->settings = g_ptr_array_new_with_free_func(setting_free);
    for (guint i = 0; from->config && i < G_N_ELEMENTS(settings_known); i++) {
        const char *value = *(char **)((char *)from->config + settings_known[i].offset);
        if (!value)
            continue;
        Setting *s = g_new0(Setting, 1);
        s->name = g_strdup(settings_known[i].name);
        s->value = g_strdup(value);
        g_ptr_array_add(t->settings, s);
    }
    g_ptr_array_add(topics, t);
}

static void expand(GPtrArray *topics, const FileTopic *from, const char *variable, const char *const *values)
{
    for (; *values; values++)
        add_topic(topics, from, replace(from->name, variable, *values));
}

static GPtrArray *load(const char *path, const char *const *sites, const char *const *agents, GError **error)
{
    g_autoptr(GString) messages = g_string_new(NULL);
    cyaml_config_t config = {
        .log_fn = keep_message, .log_ctx = messages, .mem_fn = cyaml_mem, .log_level = CYAML_LOG_ERROR};
    File *file = NULL;
    cyaml_err_t code = cyaml_load_file(path, &config, &file_schema, (cyaml_data_t **)&file, NULL);
    if (code != CYAML_OK) {
        drover_fail(error, DROVER_ERROR_PERMANENT, "Topic list %s cannot be read: %s %s", path, cyaml_strerror(code),
                    messages->str);
        return NULL;
    }
    g_autoptr(GPtrArray) topics = g_ptr_array_new_with_free_func(topic_free);
    bool ok = true;
    for (unsigned i = 0; ok && i < file->topics_count; i++) {
        const FileTopic *t = &file->topics[i];
        if (!g_str_has_prefix(t->name, "drover.") || t->partitions == 0)
            ok = drover_fail(error, DROVER_ERROR_PERMANENT,
                             "%s: topic '%s' needs a name that begins with 'drover.' and at least one partition", path,
                             t->name);
        else if (strstr(t->name, "{site}"))
            expand(topics, t, "{site}", sites);
        else if (strstr(t->name, "{agent}"))
            expand(topics, t, "{agent}", agents);
        else
            add_topic(topics, t, g_strdup(t->name));
    }
    cyaml_free(&config, &file_schema, file, 0);
    return ok ? g_steal_pointer(&topics) : NULL;
}

/* ---- the broker ----------------------------------------------------------------------------------------------- */

typedef struct {
    rd_kafka_t *client;
    rd_kafka_queue_t *queue;
    const DroverKafka *kafka;
    bool check_only;
    DroverTopicReport report;
    void *user_data;
} Admin;

static rd_kafka_AdminOptions_t *options(const Admin *admin, rd_kafka_admin_op_t op)
{
    char message[128];
    rd_kafka_AdminOptions_t *o = rd_kafka_AdminOptions_new(admin->client, op);
    rd_kafka_AdminOptions_set_request_timeout(o, ADMIN_TIMEOUT_MS, message, sizeof message);
    return o;
}

/* Waits for the answer to one request; NULL with an error when there is none. */
static rd_kafka_event_t *answer(const Admin *admin, const char *what, GError **error)
{
    rd_kafka_event_t *event = rd_kafka_queue_poll(admin->queue, ADMIN_TIMEOUT_MS + 5000);
    rd_kafka_resp_err_t code = event ? rd_kafka_event_error(event) : RD_KAFKA_RESP_ERR__TIMED_OUT;
    if (!code)
        return event;
    drover_kafka_fail(error, code, what, event ? rd_kafka_event_error_string(event) : admin->kafka->brokers);
    if (event)
        rd_kafka_event_destroy(event);
    return NULL;
}

static bool create(const Admin *admin, const Topic *t, const char *wire, GError **error)
{
    char message[256];
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(wire, t->partitions, t->replication, message, sizeof message);
    if (!topic)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "Topic %s: %s", wire, message);
    for (guint i = 0; i < t->settings->len; i++) {
        Setting *s = g_ptr_array_index(t->settings, i);
        rd_kafka_NewTopic_set_config(topic, s->name, s->value);
    }
    rd_kafka_AdminOptions_t *o = options(admin, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    rd_kafka_CreateTopics(admin->client, &topic, 1, o, admin->queue);
    rd_kafka_AdminOptions_destroy(o);
    rd_kafka_NewTopic_destroy(topic);
    rd_kafka_event_t *event = answer(admin, "Topics cannot be created", error);
    if (!event)
        return false;
    size_t n = 0;
    const rd_kafka_topic_result_t **results =
        rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &n);
    rd_kafka_resp_err_t code = n ? rd_kafka_topic_result_error(results[0]) : RD_KAFKA_RESP_ERR__BAD_MSG;
    bool ok = !code || code == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS;
    if (!ok) {
        g_autofree char *what = g_strdup_printf("Topic %s cannot be created", wire);
        drover_kafka_fail(error, code, what, rd_kafka_topic_result_error_string(results[0]));
    }
    rd_kafka_event_destroy(event);
    if (ok)
        admin->report(t->name, "created", admin->user_data);
    return ok;
}

/* True in *SAME when the broker's settings are the declared ones. */
static bool compare(const Admin *admin, const Topic *t, const char *wire, bool *same, GError **error)
{
    rd_kafka_ConfigResource_t *resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, wire);
    rd_kafka_AdminOptions_t *o = options(admin, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
    rd_kafka_DescribeConfigs(admin->client, &resource, 1, o, admin->queue);
    rd_kafka_AdminOptions_destroy(o);
    rd_kafka_ConfigResource_destroy(resource);
    rd_kafka_event_t *event = answer(admin, "Topic settings cannot be read", error);
    if (!event)
        return false;
    size_t n = 0, n_entries = 0;
    const rd_kafka_ConfigResource_t **resources =
        rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event), &n);
    const rd_kafka_ConfigEntry_t **entries = n ? rd_kafka_ConfigResource_configs(resources[0], &n_entries) : NULL;
    *same = true;
    for (guint i = 0; i < t->settings->len; i++) {
        const Setting *s = g_ptr_array_index(t->settings, i);
        bool found = false;
        for (size_t e = 0; e < n_entries && !found; e++)
            found = strcmp(rd_kafka_ConfigEntry_name(entries[e]), s->name) == 0 &&
                    g_strcmp0(rd_kafka_ConfigEntry_value(entries[e]), s->value) == 0;
        *same = *same && found;
    }
    rd_kafka_event_destroy(event);
    return true;
}

static bool update(const Admin *admin, const Topic *t, const char *wire, GError **error)
{
    rd_kafka_ConfigResource_t *resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, wire);
    for (guint i = 0; i < t->settings->len; i++) {
        const Setting *s = g_ptr_array_index(t->settings, i);
        rd_kafka_ConfigResource_set_config(resource, s->name, s->value);
    }
    rd_kafka_AdminOptions_t *o = options(admin, RD_KAFKA_ADMIN_OP_ALTERCONFIGS);
    rd_kafka_AlterConfigs(admin->client, &resource, 1, o, admin->queue);
    rd_kafka_AdminOptions_destroy(o);
    rd_kafka_ConfigResource_destroy(resource);
    rd_kafka_event_t *event = answer(admin, "Topic settings cannot be changed", error);
    if (!event)
        return false;
    size_t n = 0;
    const rd_kafka_ConfigResource_t **resources =
        rd_kafka_AlterConfigs_result_resources(rd_kafka_event_AlterConfigs_result(event), &n);
    rd_kafka_resp_err_t code = n ? rd_kafka_ConfigResource_error(resources[0]) : RD_KAFKA_RESP_ERR__BAD_MSG;
    if (code) {
        g_autofree char *what = g_strdup_printf("Settings of topic %s cannot be changed", wire);
        drover_kafka_fail(error, code, what, n ? rd_kafka_ConfigResource_error_string(resources[0]) : NULL);
    }
    rd_kafka_event_destroy(event);
    return !code;
}

static bool bring_about(const Admin *admin, const struct rd_kafka_metadata *metadata, const Topic *t, bool *complete,
                        GError **error)
{
    g_autofree char *wire = drover_kafka_topic(admin->kafka, t->name);
    int partitions = 0;
    for (int i = 0; i < metadata->topic_cnt; i++)
        if (strcmp(metadata->topics[i].topic, wire) == 0)
            partitions = metadata->topics[i].partition_cnt;
    if (partitions == 0 && admin->check_only) {
        admin->report(t->name, "missing", admin->user_data);
        *complete = false;
        return true;
    }
    if (partitions == 0)
        return create(admin, t, wire, error);
    if (partitions != t->partitions) {
        g_autofree char *outcome = g_strdup_printf("differs: %d partitions, %d declared", partitions, t->partitions);
        admin->report(t->name, outcome, admin->user_data);
        *complete = false;
        return true;
    }
    bool same = false;
    if (!compare(admin, t, wire, &same, error))
        return false;
    if (!same && admin->check_only) {
        admin->report(t->name, "differs: settings", admin->user_data);
        *complete = false;
        return true;
    }
    if (!same && !update(admin, t, wire, error))
        return false;
    admin->report(t->name, same ? "ok" : "updated", admin->user_data);
    return true;
}

bool drover_topics_apply(const DroverKafka *kafka, const char *path, const char *const *sites,
                         const char *const *agents, bool check_only, DroverTopicReport report, void *user_data,
                         GError **error)
{
    g_autoptr(GPtrArray) topics = load(path, sites, agents, error);
    if (!topics)
        return false;
    rd_kafka_t *client = drover_kafka_client(RD_KAFKA_PRODUCER, drover_kafka_base_conf(kafka), error);
    if (!client)
        return false;
    Admin admin = {client, rd_kafka_queue_new(client), kafka, check_only, report, user_data};
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_resp_err_t code = rd_kafka_metadata(client, 1, NULL, &metadata, ADMIN_TIMEOUT_MS);
    bool ok = !code || drover_kafka_fail(error, code, "Kafka does not answer", kafka->brokers);
    bool complete = true;
    for (guint i = 0; ok && i < topics->len; i++)
        ok = bring_about(&admin, metadata, g_ptr_array_index(topics, i), &complete, error);
    if (metadata)
        rd_kafka_metadata_destroy(metadata);
    rd_kafka_queue_destroy(admin.queue);
    rd_kafka_destroy(client);
    if (ok && !complete)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "Topics on %s differ from %s%s", kafka->brokers, path,
                           check_only ? ": run `drover topics apply`" : " in a way that only a person can mend");
    return ok;
}
