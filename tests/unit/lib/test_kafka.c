/* SPDX-License-Identifier: Apache-2.0 */
/* Against librdkafka's mock cluster: what needs injected errors. Real brokers are for the system tests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <string.h>

#include "drover/v1/job.pb-c.h"
#include "lib/base/error.h"
#include "lib/base/log.h"
#include "lib/kafka/kafka.h"

typedef struct {
    rd_kafka_t *host;
    rd_kafka_mock_cluster_t *cluster;
    DroverConfig *config;
    DroverKafka *kafka;
} Fixture;

static int setup(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    char message[256];
    f->host = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), message, sizeof message);
    assert_non_null(f->host);
    f->cluster = rd_kafka_mock_cluster_new(f->host, 1);
    assert_int_equal(rd_kafka_mock_topic_create(f->cluster, "t.dlq", 1, 1), 0);
    assert_int_equal(rd_kafka_mock_topic_create(f->cluster, "t.audit", 2, 1), 0);
    const DroverOption *const tables[] = {drover_fleet_options, NULL};
    g_autofree char *brokers =
        g_strconcat("--kafka-brokers=", rd_kafka_mock_cluster_bootstraps(f->cluster), NULL);
    const char *args[] = {"test", brokers, "--kafka-topic-prefix=t", "--log-level=error", NULL};
    char **argv = (char **)args;
    int argc = 4;
    g_autoptr(GError) error = NULL;
    f->config = drover_config_parse("test", "", "", tables, &argc, &argv, &error);
    assert_null(error);
    f->kafka = drover_kafka_new(f->config, "unit", &error);
    assert_null(error);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;
    drover_kafka_free(f->kafka);
    drover_config_free(f->config);
    rd_kafka_mock_cluster_destroy(f->cluster);
    rd_kafka_destroy(f->host);
    g_free(f);
    return 0;
}

/* Polls until a record comes or 20 s are over. */
static DroverRecord *next(DroverConsumer *consumer)
{
    for (int i = 0; i < 200; i++) {
        g_autoptr(GError) error = NULL;
        DroverRecord *record = drover_consumer_poll(consumer, 100, &error);
        if (record)
            return record;
    }
    return NULL;
}

static void what_is_sent_arrives(void **state)
{
    Fixture *f = *state;
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverProducer) producer = drover_producer_new(f->kafka, &error);
    assert_null(error);
    Drover__V1__AuditRecord audit = DROVER__V1__AUDIT_RECORD__INIT;
    audit.event = (char *)"job.state";
    assert_true(drover_producer_send_sync(producer, "drover.audit", 1, "k", &audit.base, 20000, &error));
    assert_true(drover_producer_send_pb(producer, "drover.audit", 1, "k", NULL, NULL, NULL, &error));
    assert_true(drover_producer_flush(producer, 20000, &error));

    g_autoptr(DroverConsumer) consumer = drover_consumer_new_manual(f->kafka, &error);
    assert_true(drover_consumer_assign_topic(consumer, "drover.audit", DROVER_OFFSET_BEGINNING, 20000, &error));
    assert_false(drover_consumer_at_end(consumer));
    g_autoptr(DroverRecord) first = next(consumer);
    assert_non_null(first);
    assert_string_equal(first->topic, "drover.audit");
    assert_int_equal(first->partition, 1);
    assert_string_equal(first->key, "k");
    Drover__V1__AuditRecord *read = drover__v1__audit_record__unpack(NULL, first->len, first->value);
    assert_non_null(read);
    assert_string_equal(read->event, "job.state");
    drover__v1__audit_record__free_unpacked(read, NULL);
    g_autoptr(DroverRecord) tombstone = next(consumer);
    assert_non_null(tombstone);
    assert_null(tombstone->value);
    for (int i = 0; i < 200 && !drover_consumer_at_end(consumer); i++)
        assert_null(drover_consumer_poll(consumer, 100, NULL));
    assert_true(drover_consumer_at_end(consumer));

    assert_true(drover_consumer_seek(consumer, "drover.audit", 1, 0, 5000, &error));
    assert_false(drover_consumer_at_end(consumer));
    g_autoptr(DroverRecord) again = next(consumer);
    assert_non_null(again);
    assert_int_equal(again->offset, first->offset);
}

static void an_oversized_record_is_permanent(void **state)
{
    Fixture *f = *state;
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverProducer) producer = drover_producer_new(f->kafka, NULL);
    g_autofree uint8_t *big = g_malloc0(DROVER_MAX_MESSAGE_BYTES + 1);
    assert_false(drover_producer_send(producer, "drover.dlq", -1, "k", big, DROVER_MAX_MESSAGE_BYTES + 1, NULL, NULL,
                                      &error));
    assert_int_equal(drover_error_class(error), DROVER_ERROR_PERMANENT);
}

static void an_unknown_topic_names_the_way_out(void **state)
{
    Fixture *f = *state;
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverConsumer) consumer = drover_consumer_new_manual(f->kafka, NULL);
    rd_kafka_mock_topic_set_error(f->cluster, "t.nowhere", RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    assert_false(drover_consumer_assign_topic(consumer, "drover.nowhere", DROVER_OFFSET_BEGINNING, 2000, &error));
    assert_non_null(strstr(error->message, "t.nowhere"));
    assert_non_null(strstr(error->message, "drover topics apply"));
}

static void a_refused_record_fails_the_flush(void **state)
{
    Fixture *f = *state;
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverProducer) producer = drover_producer_new(f->kafka, NULL);
    rd_kafka_mock_push_request_errors(f->cluster, 0 /* Produce */, 1, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    assert_true(drover_producer_send(producer, "drover.dlq", 0, "k", "v", 1, NULL, NULL, &error));
    assert_false(drover_producer_flush(producer, 20000, &error));
    assert_int_equal(drover_error_class(error), DROVER_ERROR_PERMANENT);
}

static int64_t start_at_one(const char *topic, int32_t partition, void *user_data)
{
    (void)topic, (void)partition, (void)user_data;
    return 1;
}

static void a_group_can_begin_where_its_owner_says(void **state)
{
    Fixture *f = *state;
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverProducer) producer = drover_producer_new(f->kafka, NULL);
    for (char v = 'a'; v <= 'c'; v++)
        assert_true(drover_producer_send(producer, "drover.dlq", 0, NULL, &v, 1, NULL, NULL, &error));
    assert_true(drover_producer_flush(producer, 20000, &error));
    const char *const topics[] = {"drover.dlq", NULL};
    g_autoptr(DroverConsumer) consumer =
        drover_consumer_new_group(f->kafka, "g", topics, 0, false, NULL, NULL, &error);
    assert_non_null(consumer);
    drover_consumer_set_start(consumer, start_at_one, NULL);
    g_autoptr(DroverRecord) record = next(consumer);
    assert_non_null(record);
    assert_int_equal(record->offset, 1);
    assert_int_equal(record->value[0], 'b');
    g_autoptr(GArray) owned = drover_consumer_owned(consumer, "drover.dlq");
    assert_int_equal(owned->len, 1);
    assert_true(drover_consumer_commit(consumer, record, &error));
    assert_true(drover_consumer_pause(consumer, true, &error));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_sent_arrives, setup, teardown),
        cmocka_unit_test_setup_teardown(an_oversized_record_is_permanent, setup, teardown),
        cmocka_unit_test_setup_teardown(an_unknown_topic_names_the_way_out, setup, teardown),
        cmocka_unit_test_setup_teardown(a_refused_record_fails_the_flush, setup, teardown),
        cmocka_unit_test_setup_teardown(a_group_can_begin_where_its_owner_says, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
