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

static void test_vsphere_source(void **state)
{
    (void)state;
    Sample s;
    sample_init(&s);
    Drover__V1__VsphereSource vsphere = DROVER__V1__VSPHERE_SOURCE__INIT;
    s.source.kind_case = DROVER__V1__DISK_SOURCE__KIND_VSPHERE;
    s.source.vsphere = &vsphere;
    vsphere.vcenter = (char *)"dc1";
    vsphere.vm_moref = (char *)"vm-7";
    vsphere.vm_uuid = (char *)"u-1";
    vsphere.disk_key = 2000;
    g_autoptr(GError) error = NULL;
    assert_null(decode(&s, NULL, &error)); /* without a snapshot it would read a disk that is written to */
    assert_int_equal(drover_error_class(error), DROVER_ERROR_PERMANENT);
    g_clear_error(&error);
    vsphere.snapshot_moref = (char *)"snapshot-3";
    g_autoptr(DroverTask) task = decode(&s, NULL, &error);
    assert_non_null(task);
    assert_int_equal(task->source.type, DROVER_SOURCE_VSPHERE);
    assert_string_equal(task->source.vcenter, "dc1");
    assert_string_equal(task->source.vm_moref, "vm-7");
    assert_string_equal(task->source.vm_uuid, "u-1");
    assert_int_equal(task->source.disk_key, 2000);
    assert_string_equal(task->source.snapshot_moref, "snapshot-3");
}

static DroverTask *decode_vm(Drover__V1__SourceVmTask *vm, GError **error)
{
    Drover__V1__Task task = DROVER__V1__TASK__INIT;
    uint8_t buf[1024];
    task.task_id = (char *)"j/vm/r0/snapshot";
    task.job_id = (char *)"j";
    task.attempt = 1;
    task.body_case = DROVER__V1__TASK__BODY_SOURCE_VM;
    task.source_vm = vm;
    size_t len = drover__v1__task__pack(&task, buf);
    return drover_codec_task(buf, len, NULL, error);
}

static void test_source_vm_task(void **state)
{
    (void)state;
    Drover__V1__SourceVmTask vm = DROVER__V1__SOURCE_VM_TASK__INIT;
    int32_t keys[] = {2000, 2001};
    g_autoptr(GError) error = NULL;
    vm.action = DROVER__V1__SOURCE_VM_ACTION__SOURCE_VM_ACTION_SNAPSHOT;
    vm.vcenter = (char *)"dc1";
    vm.vm_moref = (char *)"vm-7";
    vm.disk_keys = keys;
    vm.n_disk_keys = 2;
    assert_null(decode_vm(&vm, &error)); /* a repetition could not find its snapshot without a name */
    g_clear_error(&error);
    vm.snapshot_name = (char *)"drover-j-r0";
    g_autoptr(DroverTask) task = decode_vm(&vm, &error);
    assert_non_null(task);
    assert_int_equal(task->kind, DROVER_TASK_SOURCE_VM);
    assert_int_equal(task->vm.action, DROVER_VM_SNAPSHOT);
    assert_int_equal(task->vm.n_disk_keys, 2);
    assert_int_equal(task->vm.disk_keys[1], 2001);
    assert_int_equal(task->vm.power_policy, DROVER_POWER_ASK);
    assert_string_equal(task->vm.snapshot_name, "drover-j-r0");
    vm.action = (Drover__V1__SourceVmAction)(DROVER__V1__SOURCE_VM_ACTION__SOURCE_VM_ACTION_LOOK + 1);
    assert_null(decode_vm(&vm, &error));
    g_clear_error(&error);
    vm.action = DROVER__V1__SOURCE_VM_ACTION__SOURCE_VM_ACTION_POWER_OFF;
    vm.power_policy = (Drover__V1__PowerPolicy)4;
    assert_null(decode_vm(&vm, &error));
    g_clear_error(&error);
    vm.power_policy = DROVER__V1__POWER_POLICY__POWER_POLICY_FORCE;
    vm.vm_moref = (char *)"";
    assert_null(decode_vm(&vm, &error));
}

static void test_source_vm_result(void **state)
{
    (void)state;
    DroverTask task = {.task_id = (char *)"t", .job_id = (char *)"j", .disk_id = (char *)"", .attempt = 2,
                       .vm = {.action = DROVER_VM_SNAPSHOT}};
    const DroverReporterName name = {"w", "i", "s"};
    const DroverVmFinding findings[] = {{"error", "DRV-X", "bad name \xff", 2000}};
    const DroverVmDisk disks[] = {{2000, 100 * MIB, "52 3c/4", "[ds] a/\xff.vmdk", "datastore-1", 7}};
    DroverVmResult result = {findings, 1, "snapshot-3", true, disks, 1, "poweredOn", "host-1", 1234};
    g_autoptr(GBytes) bytes = drover_codec_source_vm(&name, &task, &result);
    gsize len;
    const uint8_t *data = g_bytes_get_data(bytes, &len);
    Drover__V1__Event *event = drover__v1__event__unpack(NULL, len, data);
    assert_non_null(event);
    assert_int_equal(event->body_case, DROVER__V1__EVENT__BODY_SOURCE_VM);
    assert_int_equal(event->source_vm->action, DROVER_VM_SNAPSHOT);
    assert_string_equal(event->source_vm->findings[0]->code, "DRV-X");
    assert_true(g_utf8_validate(event->source_vm->findings[0]->message, -1, NULL));
    assert_int_equal(event->source_vm->disks[0]->capacity_bytes, 100 * MIB);
    assert_string_equal(event->source_vm->disks[0]->change_id, "52 3c/4");
    assert_true(g_utf8_validate(event->source_vm->disks[0]->backing_path, -1, NULL));
    assert_true(event->source_vm->quiesced);
    assert_int_equal(event->source_vm->snapshot_at_ms, 1234);
    drover__v1__event__free_unpacked(event, NULL);
    g_autoptr(GBytes) notice = drover_codec_notice(&name, &task, "warning", "vm.x", "words");
    data = g_bytes_get_data(notice, &len);
    event = drover__v1__event__unpack(NULL, len, data);
    assert_string_equal(event->notice->message, "words");
    drover__v1__event__free_unpacked(event, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vsphere_source),
        cmocka_unit_test(test_source_vm_task),
        cmocka_unit_test(test_source_vm_result),
        cmocka_unit_test(test_copy_task),    cmocka_unit_test(test_refused), cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_failed_event), cmocka_unit_test(test_control),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
