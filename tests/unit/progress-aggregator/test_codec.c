/* SPDX-License-Identifier: Apache-2.0 */
#include "progress-aggregator/codec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "drover/v1/event.pb-c.h"
#include "drover/v1/job.pb-c.h"
#include "drover/v1/state.pb-c.h"

typedef struct {
    DroverRecord record;
    DroverFoldKind kind;
    GPtrArray *args;
    GError *error;
} Case;

static int setup(void **state)
{
    Case *c = g_new0(Case, 1);
    c->args = g_ptr_array_new_with_free_func(g_free);
    *state = c;
    return 0;
}

static int teardown(void **state)
{
    Case *c = *state;
    g_ptr_array_unref(c->args);
    g_free(c->record.value);
    g_clear_error(&c->error);
    g_free(c);
    return 0;
}

/* Decodes MESSAGE (NULL: tombstone) as a record of TOPIC with KEY. */
static bool decode(Case *c, const char *topic, const char *key, const ProtobufCMessage *message)
{
    g_clear_pointer(&c->record.value, g_free);
    g_ptr_array_set_size(c->args, 0);
    g_clear_error(&c->error);
    c->record.topic = (char *)topic;
    c->record.key = (char *)key;
    if (message) {
        c->record.len = protobuf_c_message_get_packed_size(message);
        c->record.value = g_malloc(c->record.len + 1);
        protobuf_c_message_pack(message, c->record.value);
    }
    return drover_codec_decode(&c->record, &c->kind, c->args, &c->error);
}

static const char *arg(const Case *c, guint i)
{
    assert_true(i < c->args->len);
    return g_ptr_array_index(c->args, i);
}

/* Value of FIELD among the pairs anywhere in the arguments. */
static const char *pair(const Case *c, const char *field)
{
    for (guint i = 0; i + 1 < c->args->len; i++)
        if (strcmp(arg(c, i), field) == 0)
            return arg(c, i + 1);
    fail_msg("no %s", field);
    return NULL;
}

static void job(void **state)
{
    Case *c = *state;
    Drover__V1__JobState j = DROVER__V1__JOB_STATE__INIT;
    Drover__V1__Error error = DROVER__V1__ERROR__INIT;
    Drover__V1__JobState__PhaseStartedAtMsEntry entry = DROVER__V1__JOB_STATE__PHASE_STARTED_AT_MS_ENTRY__INIT;
    Drover__V1__JobState__PhaseStartedAtMsEntry *entries[] = {&entry};
    Drover__V1__StateRecord r = DROVER__V1__STATE_RECORD__INIT;
    r.record_case = DROVER__V1__STATE_RECORD__RECORD_JOB;
    r.job = &j;
    j.job_id = (char *)"mig-1";
    j.version = 7;
    assert_false(decode(c, "drover.state", "job/mig-1", &r.base));
    assert_non_null(strstr(c->error->message, "no phase"));
    j.phase = DROVER__V1__JOB_PHASE__JOB_PHASE_FAILED;
    j.error = &error;
    error.code = (char *)"DRV-X";
    error.message = (char *)"DRV-X: broken migration-vol-1@3.0123456789abcdef0123456789abcdef";
    entry.key = (char *)"copying";
    entry.value = 1;
    j.phase_started_at_ms = entries;
    j.n_phase_started_at_ms = 1;
    assert_true(decode(c, "drover.state", "job/mig-1", &r.base));
    assert_int_equal(c->kind, DROVER_FOLD_JOB);
    assert_string_equal(arg(c, 0), "mig-1");
    assert_string_equal(arg(c, 1), "7");
    assert_string_equal(arg(c, 2), "failed");
    assert_string_equal(arg(c, 3), "1");
    assert_string_equal(pair(c, "current_operation"), "Failed");
    assert_string_equal(pair(c, "vma_current_phase"), "Transfer");
    assert_true(g_str_has_prefix(pair(c, "error_message"), "DRV-X: broken"));
    assert_null(strstr(pair(c, "error_message"), "0123456789abcdef"));
    assert_string_equal(pair(c, "started_at"), "");
    j.phase = (Drover__V1__JobPhase)500; /* of a newer scheduler */
    assert_true(decode(c, "drover.state", "job/mig-1", &r.base));
    assert_string_equal(arg(c, 2), "running");
}

static void progress(void **state)
{
    Case *c = *state;
    Drover__V1__Progress p = DROVER__V1__PROGRESS__INIT;
    Drover__V1__ByteCounts counts = DROVER__V1__BYTE_COUNTS__INIT;
    p.job_id = (char *)"j";
    p.disk_id = (char *)"d";
    p.task_id = (char *)"j/d/r0/copy/0";
    p.attempt = 2;
    p.sequence = 9;
    p.counts = &counts;
    counts.data_bytes = DROVER_FOLD_MAX_BYTES;
    assert_true(decode(c, "drover.progress.site-1", "j", &p.base));
    assert_int_equal(c->kind, DROVER_FOLD_PROGRESS);
    assert_string_equal(arg(c, 8), "9007199254740992");
    counts.data_bytes++;
    assert_false(decode(c, "drover.progress.site-1", "j", &p.base));
    counts.data_bytes = 0;
    p.disk_id = (char *)"a b";
    assert_false(decode(c, "drover.progress.site-1", "j", &p.base));
    assert_int_equal(c->args->len, 0);
}

static void tombstones(void **state)
{
    Case *c = *state;
    static const struct {
        const char *key, *what;
    } keys[] = {{"job/a", "job"}, {"job/a/disk/b", "disk"}, {"job/a/disk/b/task/a/b/r0/copy/1", "task"}};
    for (guint i = 0; i < G_N_ELEMENTS(keys); i++) {
        assert_true(decode(c, "drover.state", keys[i].key, NULL));
        assert_int_equal(c->kind, DROVER_FOLD_FORGET);
        assert_string_equal(arg(c, 0), keys[i].what);
        assert_string_equal(arg(c, 1), "a");
    }
    assert_true(decode(c, "drover.state", "offsets", NULL));
    assert_int_equal(c->kind, DROVER_FOLD_SKIP);
    assert_true(decode(c, "drover.state", NULL, NULL));
    assert_true(decode(c, "drover.checkpoints.site-1", "t/1/1", NULL));
    assert_int_equal(c->kind, DROVER_FOLD_SKIP);
}

static void garbage(void **state)
{
    Case *c = *state;
    static const char *const topics[] = {"drover.state",        "drover.events.a", "drover.progress.a",
                                         "drover.checkpoints.a", "drover.audit",    "drover.fleet"};
    for (guint i = 0; i < G_N_ELEMENTS(topics); i++) {
        c->record = (DroverRecord){.topic = (char *)topics[i], .value = (uint8_t *)g_strdup("\xff\xff\xff"), .len = 3};
        assert_false(drover_codec_decode(&c->record, &c->kind, c->args, &c->error));
        assert_int_equal(c->kind, DROVER_FOLD_SKIP);
        assert_int_equal(c->args->len, 0);
        g_clear_error(&c->error);
        g_clear_pointer(&c->record.value, g_free);
    }
}

static void job_log(void **state)
{
    Case *c = *state;
    Drover__V1__AuditRecord a = DROVER__V1__AUDIT_RECORD__INIT;
    assert_true(decode(c, "drover.audit", NULL, &a.base)); /* about no job */
    assert_int_equal(c->kind, DROVER_FOLD_SKIP);
    a.job_id = (char *)"j";
    a.message = (char *)"opened migration-vol-9@1.00112233445566778899aabbccddeeff now";
    assert_true(decode(c, "drover.audit", "j", &a.base));
    assert_int_equal(c->kind, DROVER_FOLD_LOG);
    assert_string_equal(pair(c, "level"), "info");
    assert_null(strstr(pair(c, "message"), "00112233"));
    Drover__V1__Event e = DROVER__V1__EVENT__INIT;
    Drover__V1__TaskFailed failed = DROVER__V1__TASK_FAILED__INIT;
    Drover__V1__Error why = DROVER__V1__ERROR__INIT;
    e.job_id = (char *)"j";
    e.attempt = 3;
    e.body_case = DROVER__V1__EVENT__BODY_FAILED;
    e.failed = &failed;
    assert_true(decode(c, "drover.events.site-1", "j", &e.base));
    assert_string_equal(pair(c, "message"), "Attempt 3 failed: no reason given");
    failed.error = &why;
    why.code = (char *)"DRV-SOURCE-MISSING";
    why.message = (char *)"DRV-SOURCE-MISSING: /x is not there";
    assert_true(decode(c, "drover.events.site-1", "j", &e.base));
    assert_string_equal(pair(c, "message"), "Attempt 3 failed: DRV-SOURCE-MISSING: /x is not there");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(job), TEST(progress), TEST(tombstones), TEST(garbage), TEST(job_log)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
