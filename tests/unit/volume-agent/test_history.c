/* SPDX-License-Identifier: Apache-2.0 */
/* What operations that ended say of how things should be, and which of them can be forgotten. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "volume-agent/reconcile/history.h"

#define APPLIANCE "the-appliance"

static GPtrArray *ended;

static int set_up(void **state)
{
    (void)state;
    ended = g_ptr_array_new_with_free_func((GDestroyNotify)drover_operation_free);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    g_ptr_array_unref(ended);
    return 0;
}

/* ASKED has its kind and body set; it ended at the minute of its number. */
static DroverOperation *add(Drover__V1__VolumeOperation *asked, bool done)
{
    g_autofree char *id = g_strdup_printf("op%u", ended->len);
    asked->operation_id = id;
    size_t len = drover__v1__volume_operation__get_packed_size(asked);
    g_autofree uint8_t *bytes = g_malloc(len + 1);
    drover__v1__volume_operation__pack(asked, bytes);
    DroverOperation *o = drover_operation_new(drover__v1__volume_operation__unpack(NULL, len, bytes));
    o->state = done ? DROVER__V1__OPERATION_STATE__OPERATION_STATE_DONE : DROVER__V1__OPERATION_STATE__OPERATION_STATE_FAILED;
    o->sequence = ended->len;
    o->updated_at_ms = (int64_t)ended->len * 60000;
    g_ptr_array_add(ended, o);
    return o;
}

static DroverOperation *create(const char *volume, bool done)
{
    Drover__V1__CreateVolume body = DROVER__V1__CREATE_VOLUME__INIT;
    Drover__V1__VolumeOperation asked = DROVER__V1__VOLUME_OPERATION__INIT;
    asked.operation_case = DROVER__V1__VOLUME_OPERATION__OPERATION_CREATE_VOLUME;
    asked.create_volume = &body;
    body.custom_id = (char *)volume;
    return add(&asked, done);
}

static DroverOperation *attach(const char *volume, bool done)
{
    Drover__V1__AttachVolume body = DROVER__V1__ATTACH_VOLUME__INIT;
    Drover__V1__VolumeOperation asked = DROVER__V1__VOLUME_OPERATION__INIT;
    asked.operation_case = DROVER__V1__VOLUME_OPERATION__OPERATION_ATTACH_VOLUME;
    asked.attach_volume = &body;
    body.volume_id = (char *)volume;
    return add(&asked, done);
}

static DroverOperation *detach(const char *volume, bool done)
{
    Drover__V1__DetachVolume body = DROVER__V1__DETACH_VOLUME__INIT;
    Drover__V1__VolumeOperation asked = DROVER__V1__VOLUME_OPERATION__INIT;
    asked.operation_case = DROVER__V1__VOLUME_OPERATION__OPERATION_DETACH_VOLUME;
    asked.detach_volume = &body;
    body.volume_id = (char *)volume;
    return add(&asked, done);
}

static DroverOperation *delete_volume(const char *volume, bool done)
{
    Drover__V1__DeleteVolume body = DROVER__V1__DELETE_VOLUME__INIT;
    Drover__V1__VolumeOperation asked = DROVER__V1__VOLUME_OPERATION__INIT;
    asked.operation_case = DROVER__V1__VOLUME_OPERATION__OPERATION_DELETE_VOLUME;
    asked.delete_volume = &body;
    body.volume_id = (char *)volume;
    return add(&asked, done);
}

static DroverOperation *open_export(const char *volume, uint64_t generation, bool done)
{
    Drover__V1__OpenExport body = DROVER__V1__OPEN_EXPORT__INIT;
    Drover__V1__VolumeOperation asked = DROVER__V1__VOLUME_OPERATION__INIT;
    asked.operation_case = DROVER__V1__VOLUME_OPERATION__OPERATION_OPEN_EXPORT;
    asked.open_export = &body;
    body.volume_id = (char *)volume;
    body.generation = generation;
    return add(&asked, done);
}

static DroverOperation *deploy(const char *vm, bool done)
{
    Drover__V1__DeployVm body = DROVER__V1__DEPLOY_VM__INIT;
    Drover__V1__VolumeOperation asked = DROVER__V1__VOLUME_OPERATION__INIT;
    asked.operation_case = DROVER__V1__VOLUME_OPERATION__OPERATION_DEPLOY_VM;
    asked.deploy_vm = &body;
    body.custom_id = (char *)vm;
    return add(&asked, done);
}

static DroverOperation *swap(const char *vm, const char *volume, bool done)
{
    Drover__V1__SwapRoot body = DROVER__V1__SWAP_ROOT__INIT;
    Drover__V1__VolumeOperation asked = DROVER__V1__VOLUME_OPERATION__INIT;
    asked.operation_case = DROVER__V1__VOLUME_OPERATION__OPERATION_SWAP_ROOT;
    asked.swap_root = &body;
    body.vm_id = (char *)vm;
    body.volume_id = (char *)volume;
    return add(&asked, done);
}

static DroverOperation *destroy(const char *vm, bool done)
{
    Drover__V1__DestroyVm body = DROVER__V1__DESTROY_VM__INIT;
    Drover__V1__VolumeOperation asked = DROVER__V1__VOLUME_OPERATION__INIT;
    asked.operation_case = DROVER__V1__VOLUME_OPERATION__OPERATION_DESTROY_VM;
    asked.destroy_vm = &body;
    body.vm_id = (char *)vm;
    return add(&asked, done);
}

static DroverOperation *clean_up(const char *vm, bool done)
{
    Drover__V1__CleanupTestFailover body = DROVER__V1__CLEANUP_TEST_FAILOVER__INIT;
    Drover__V1__VolumeOperation asked = DROVER__V1__VOLUME_OPERATION__INIT;
    asked.operation_case = DROVER__V1__VOLUME_OPERATION__OPERATION_CLEANUP_TEST_FAILOVER;
    asked.cleanup_test_failover = &body;
    body.vm_id = (char *)vm;
    return add(&asked, done);
}

static DroverOperation *force_sync(bool repair, bool done)
{
    Drover__V1__ForceSync body = DROVER__V1__FORCE_SYNC__INIT;
    Drover__V1__VolumeOperation asked = DROVER__V1__VOLUME_OPERATION__INIT;
    asked.operation_case = DROVER__V1__VOLUME_OPERATION__OPERATION_FORCE_SYNC;
    asked.force_sync = &body;
    body.repair = repair;
    return add(&asked, done);
}

/* Where VOLUME should be; "?" when nobody knows, "-" when it is not known at all. */
static const char *where(const DroverHistory *history, const char *volume)
{
    const DroverKnownVolume *known = g_hash_table_lookup(history->volumes, volume);
    return !known ? "-" : known->where ? known->where : "?";
}

static void test_the_last_operation_tells_where_a_volume_is(void **state)
{
    (void)state;
    create("made", true);
    create("here", true);
    attach("here", true);
    attach("off", true);
    detach("off", true);
    attach("unclear", true);
    detach("unclear", false);
    create("deleted", true);
    delete_volume("deleted", true);
    create("failed", false);
    swap("vm", "root", true);
    create("twice", true);
    attach("twice", true);
    swap("vm", "twice", false);
    create("twice", true)->result.already_done = true;
    g_autoptr(DroverHistory) history = drover_history_new(ended, APPLIANCE);
    assert_string_equal(where(history, "twice"), "?");
    assert_string_equal(where(history, "made"), "");
    assert_string_equal(where(history, "here"), APPLIANCE);
    assert_string_equal(where(history, "off"), "");
    assert_string_equal(where(history, "unclear"), "?");
    assert_string_equal(where(history, "deleted"), "-");
    assert_string_equal(where(history, "failed"), "?");
    assert_string_equal(where(history, "root"), "vm");
    const DroverKnownVolume *failed = g_hash_table_lookup(history->volumes, "failed");
    const DroverKnownVolume *off = g_hash_table_lookup(history->volumes, "off");
    assert_true(failed->tried && !failed->made);
    assert_false(off->made); /* somebody else's */
}

static void test_what_becomes_of_the_volumes_of_a_vm(void **state)
{
    (void)state;
    deploy("vm", true);
    deploy("broken", false);
    swap("vm", "a", true);
    swap("other", "b", true);
    swap("third", "c", true);
    destroy("vm", true);
    destroy("third", false);
    drover_operation_add_volume(clean_up("other", true), "b");
    g_autoptr(DroverHistory) history = drover_history_new(ended, APPLIANCE);
    assert_string_equal(where(history, "a"), "");
    assert_string_equal(where(history, "b"), APPLIANCE);
    assert_string_equal(where(history, "c"), "?");
    assert_false(g_hash_table_contains(history->vms, "vm"));
    assert_true(g_hash_table_contains(history->vms, "broken"));
}

static void test_old_root_disks_and_what_a_comparison_deleted(void **state)
{
    (void)state;
    drover_set_text(&swap("vm", "new", false)->result.old_root_volume_id, "old");
    create("in-destroy", true);
    drover_operation_add_volume(force_sync(true, true), "in-destroy");
    g_autoptr(DroverHistory) history = drover_history_new(ended, APPLIANCE);
    assert_int_equal(history->old_roots->len, 1);
    const DroverOldRoot *old = g_ptr_array_index(history->old_roots, 0);
    assert_string_equal(old->volume_id, "old");
    assert_string_equal(old->vm_id, "vm");
    assert_string_equal(where(history, "in-destroy"), "-");
}

static void assert_prunable(int64_t before_ms, const char *expected)
{
    g_autoptr(GPtrArray) ids = drover_history_prunable(ended, before_ms);
    g_autoptr(GString) text = g_string_new(NULL);
    for (guint i = ids->len; i-- > 0;)
        g_string_append_printf(text, "%s%s", text->len ? " " : "", (const char *)g_ptr_array_index(ids, i));
    assert_string_equal(text->str, expected);
}

static void test_only_what_nobody_needs_is_forgotten(void **state)
{
    (void)state;
    create("kept", true);         /* 0 */
    open_export("kept", 1, true); /* 1 */
    open_export("kept", 2, true); /* 2 */
    create("gone", true);         /* 3 */
    attach("gone", true);         /* 4 */
    delete_volume("gone", true);        /* 5 */
    deploy("vm", true);           /* 6 */
    force_sync(false, true);      /* 7 */
    assert_prunable(0, "");
    assert_prunable(4 * 60000, "op1 op3");
    assert_prunable(G_MAXINT64, "op1 op3 op4 op5 op7");
    destroy("vm", true); /* 8 */
    assert_prunable(G_MAXINT64, "op1 op3 op4 op5 op6 op7 op8");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_last_operation_tells_where_a_volume_is, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_becomes_of_the_volumes_of_a_vm, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_old_root_disks_and_what_a_comparison_deleted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_only_what_nobody_needs_is_forgotten, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
