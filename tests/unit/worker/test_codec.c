/* SPDX-License-Identifier: Apache-2.0 */
/* What arrives is refused or understood, and never half of both. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "drover/v1/control.pb-c.h"
#include "drover/v1/event.pb-c.h"
#include "drover/v1/task.pb-c.h"
#include "lib/base/error.h"
#include "worker/codec.h"

#define MIB (UINT64_C(1) << 20)

/* A whole copy task, all parts in one place, so that a case changes one field. */
typedef struct {
    Drover__V1__Task task;
    Drover__V1__CopyTask copy;
    Drover__V1__DiskSource source;
    Drover__V1__FileSource file;
    Drover__V1__SourceIdentity identity;
    Drover__V1__NbdTarget target;
    Drover__V1__Range range;
} Sample;

static void sample_init(Sample *s)
{
    drover__v1__task__init(&s->task);
    drover__v1__copy_task__init(&s->copy);
    drover__v1__disk_source__init(&s->source);
    drover__v1__file_source__init(&s->file);
    drover__v1__source_identity__init(&s->identity);
    drover__v1__nbd_target__init(&s->target);
    drover__v1__range__init(&s->range);
    s->task.task_id = (char *)"j/d/r0/copy/0";
    s->task.job_id = (char *)"j";
    s->task.disk_id = (char *)"d";
    s->task.attempt = 1;
    s->task.body_case = DROVER__V1__TASK__BODY_COPY;
    s->task.copy = &s->copy;
    s->copy.source = &s->source;
    s->source.kind_case = DROVER__V1__DISK_SOURCE__KIND_FILE;
    s->source.file = &s->file;
    s->file.path = (char *)"/images/a.qcow2";
    s->copy.identity = &s->identity;
    s->identity.kind = (char *)"file";
    s->copy.capacity_bytes = 100 * MIB;
    s->copy.sync_type = DROVER__V1__SYNC_TYPE__SYNC_TYPE_FULL;
    s->copy.range = &s->range;
    s->range.offset = 64 * MIB;
    s->range.length = 36 * MIB;
    s->copy.target = &s->target;
    s->target.host = (char *)"10.0.0.1";
    s->target.export_name = (char *)"migration-vol-1";
    s->target.generation = 3;
    s->target.tls = true;
    s->target.token = (char *)"00112233445566778899aabbccddeeff";
    s->copy.digest = DROVER__V1__DIGEST_ALGORITHM__DIGEST_ALGORITHM_XXH3;
}

static DroverTask *decode(const Sample *s, DroverTask **header, GError **error)
{
    uint8_t buf[4096];
    size_t len = drover__v1__task__pack(&s->task, buf);
    return drover_codec_task(buf, len, header, error);
}

static void test_copy_task(void **state)
{
    (void)state;
    Sample s;
    sample_init(&s);
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverTask) task = decode(&s, NULL, &error);
    assert_non_null(task);
    assert_int_equal(task->kind, DROVER_TASK_COPY);
    assert_int_equal(task->range.offset, 64 * MIB);
    assert_string_equal(task->source.path, "/images/a.qcow2");
    assert_string_equal(task->source.format, "");
    assert_false(task->source.has_expected_size);
    assert_int_equal(task->digest, DROVER_DIGEST_XXH3);
    assert_true(task->target.tls);
    assert_int_equal(task->target.generation, 3);
}

static void refused(const Sample *s, bool with_header)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverTask) header = NULL;
    g_autoptr(DroverTask) task = decode(s, &header, &error);
    assert_null(task);
    assert_int_equal(error->code, DROVER_ERROR_PERMANENT);
    assert_true(g_str_has_prefix(error->message, "DRV-TASK-INVALID: "));
    assert_int_equal(header != NULL, with_header);
}

#define REFUSED(with_header, change)                                                                                  \
    do {                                                                                                              \
        Sample s;                                                                                                     \
        sample_init(&s);                                                                                              \
        change;                                                                                                       \
        refused(&s, with_header);                                                                                     \
    } while (0)

static void test_refused(void **state)
{
    (void)state;
    REFUSED(false, s.task.task_id = (char *)"");
    REFUSED(false, s.task.job_id = (char *)"../x");
    REFUSED(false, s.task.attempt = 0);
    REFUSED(true, s.task.body_case = DROVER__V1__TASK__BODY__NOT_SET);
    REFUSED(true, s.source.kind_case = DROVER__V1__DISK_SOURCE__KIND__NOT_SET);
    REFUSED(true, s.range.length = 0);
    REFUSED(true, s.range.length = 37 * MIB);
    REFUSED(true, s.range.length = 35 * MIB);
    REFUSED(true, s.range.offset = 63 * MIB);
    REFUSED(true, s.range.offset = UINT64_MAX - 32 * MIB + 1);
    REFUSED(true, s.copy.range = NULL);
    REFUSED(true, s.copy.digest = DROVER__V1__DIGEST_ALGORITHM__DIGEST_ALGORITHM_UNSPECIFIED);
    REFUSED(true, s.copy.digest = (Drover__V1__DigestAlgorithm)17);
    REFUSED(true, s.copy.sync_type = DROVER__V1__SYNC_TYPE__SYNC_TYPE_UNSPECIFIED);
    REFUSED(true, s.copy.sync_type = DROVER__V1__SYNC_TYPE__SYNC_TYPE_INCREMENTAL);
    REFUSED(true, s.target.generation = 0);
    REFUSED(true, s.target.port = 65536);
    REFUSED(true, s.copy.target = NULL);
}

static void test_garbage(void **state)
{
    (void)state;
    GRand *rand = g_rand_new_with_seed(3);
    uint8_t good[4096];
    Sample s;
    sample_init(&s);
    size_t len = drover__v1__task__pack(&s.task, good);
    for (int i = 0; i < 20000; i++) {
        uint8_t bad[4096];
        memcpy(bad, good, len);
        bad[g_rand_int_range(rand, 0, (gint32)len)] = (uint8_t)g_rand_int(rand);
        size_t cut = i % 3 == 0 ? (size_t)g_rand_int_range(rand, 0, (gint32)len) : len;
        g_autoptr(DroverTask) header = NULL;
        g_autoptr(DroverTask) task = drover_codec_task(bad, cut, &header, NULL);
        g_autoptr(DroverJobControl) control = drover_codec_control(bad, cut, NULL);
        assert_false(task != NULL && header != NULL);
    }
    g_rand_free(rand);
    assert_null(drover_codec_task(NULL, 0, NULL, NULL));
    assert_null(drover_codec_control(NULL, 0, NULL));
}

/* A failure's text leaves without the token, and as valid UTF-8 even when a file name is not. */
static void test_failed_event(void **state)
{
    (void)state;
    Sample s;
    sample_init(&s);
    g_autoptr(DroverTask) task = decode(&s, NULL, NULL);
    DroverReporterName name = {"worker-1", "i", "site-1"};
    g_autoptr(GError) failure = NULL;
    drover_fail(&failure, DROVER_ERROR_RETRYABLE,
                "DRV-COPY-CONNECT: migration-vol-1@3.00112233445566778899aabbccddeeff: /a\xff/b");
    g_autoptr(GBytes) bytes = drover_codec_failed(&name, task, failure, NULL);
    Drover__V1__Event *event =
        drover__v1__event__unpack(NULL, g_bytes_get_size(bytes), g_bytes_get_data(bytes, NULL));
    assert_non_null(event);
    assert_int_equal(event->body_case, DROVER__V1__EVENT__BODY_FAILED);
    const Drover__V1__Error *error = event->failed->error;
    assert_string_equal(error->code, "DRV-COPY-CONNECT");
    assert_int_equal(error->error_class, DROVER__V1__ERROR_CLASS__ERROR_CLASS_RETRYABLE);
    assert_null(strstr(error->message, "00112233445566778899aabbccddeeff"));
    assert_true(g_utf8_validate(error->message, -1, NULL));
    drover__v1__event__free_unpacked(event, NULL);
}

static void test_control(void **state)
{
    (void)state;
    Drover__V1__ControlRecord record = DROVER__V1__CONTROL_RECORD__INIT;
    Drover__V1__JobControl job = DROVER__V1__JOB_CONTROL__INIT;
    uint8_t buf[256];
    record.record_case = DROVER__V1__CONTROL_RECORD__RECORD_JOB;
    record.job = &job;
    job.job_id = (char *)"j";
    assert_null(drover_codec_control(buf, drover__v1__control_record__pack(&record, buf), NULL)); /* no desire */
    job.desired = DROVER__V1__DESIRED_STATE__DESIRED_STATE_PAUSE;
    g_autoptr(DroverJobControl) control =
        drover_codec_control(buf, drover__v1__control_record__pack(&record, buf), NULL);
    assert_non_null(control);
    assert_int_equal(control->desired, DROVER_DESIRED_PAUSE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copy_task),    cmocka_unit_test(test_refused), cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_failed_event), cmocka_unit_test(test_control),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
