/* SPDX-License-Identifier: Apache-2.0 */
/* What is done next with a source VM, whatever an earlier attempt has left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/vsphere/vm-make.h"
#include "worker/vsphere/decide.h"

static int32_t keys[] = {2000, 2001};

static DroverVmOrder an_order(void)
{
    return (DroverVmOrder){
        .disk_keys = keys,
        .n_disk_keys = 2,
        .snapshot_name = (char *)"drover-j-r0",
        .snapshot_moref = (char *)"",
        .power_policy = DROVER_POWER_ASK,
    };
}

static DroverVsphereVm *a_vm(bool tracking, const char *change_id)
{
    DroverVsphereVm *vm = drover_vsphere_vm_new();
    drover_vsphere_set(&vm->name, "web");
    drover_vsphere_set(&vm->version, "vmx-19");
    drover_vsphere_set(&vm->power_state, "poweredOn");
    drover_vsphere_set(&vm->tools_status, "guestToolsRunning");
    vm->has_change_tracking = true;
    vm->change_tracking = tracking;
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        DroverVsphereDisk *disk = drover_vsphere_disk_new();
        disk->key = keys[i];
        drover_vsphere_set(&disk->change_id, change_id);
        g_ptr_array_add(vm->disks, disk);
    }
    return vm;
}

static void add_snapshot(DroverVsphereVm *vm, const char *moref, const char *name)
{
    DroverVsphereSnapshot *snapshot = drover_vsphere_snapshot_new();
    drover_vsphere_set(&snapshot->moref, moref);
    drover_vsphere_set(&snapshot->name, name);
    g_ptr_array_add(vm->snapshots, snapshot);
}

static DroverVmStep step(const DroverVsphereVm *vm, bool initialised)
{
    DroverVmOrder order = an_order();
    g_autoptr(GError) error = NULL;
    DroverVmStep found = drover_vm_snapshot_step(vm, &order, initialised, &error);
    assert_true((found == DROVER_VM_STEP_REFUSE) == (error != NULL));
    return found;
}

static void refused(const DroverVsphereVm *vm, const char *code)
{
    DroverVmOrder order = an_order();
    g_autoptr(GError) error = NULL;
    assert_int_equal(drover_vm_snapshot_step(vm, &order, false, &error), DROVER_VM_STEP_REFUSE);
    g_autofree char *found = drover_error_code(error->message);
    assert_string_equal(found, code);
    assert_int_equal(drover_error_class(error), DROVER_ERROR_PERMANENT);
}

/* The steps of a first round in their order, each as what the VM shows after the one before. */
static void test_snapshot_from_nothing(void **state)
{
    (void)state;
    g_autoptr(DroverVsphereVm) vm = a_vm(false, "");
    assert_int_equal(step(vm, false), DROVER_VM_STEP_ENABLE_TRACKING);
    vm->change_tracking = true;
    assert_int_equal(step(vm, false), DROVER_VM_STEP_TAKE_INITIAL);
    add_snapshot(vm, "snapshot-1", "drover-j-r0-init");
    assert_int_equal(step(vm, false), DROVER_VM_STEP_REMOVE_INITIAL);
    assert_int_equal(step(vm, true), DROVER_VM_STEP_REMOVE_INITIAL); /* one that a killed attempt has left */
    g_ptr_array_set_size(vm->snapshots, 0);
    assert_int_equal(step(vm, true), DROVER_VM_STEP_TAKE);
    add_snapshot(vm, "snapshot-2", "drover-j-r0");
    assert_int_equal(step(vm, false), DROVER_VM_STEP_DONE);
}

static void test_snapshot_later(void **state)
{
    (void)state;
    g_autoptr(DroverVsphereVm) vm = a_vm(true, "52 3c/4");
    add_snapshot(vm, "snapshot-1", "of somebody else");
    assert_int_equal(step(vm, false), DROVER_VM_STEP_TAKE);
    drover_vsphere_set(&((DroverVsphereDisk *)g_ptr_array_index(vm->disks, 1))->change_id, ""); /* added later */
    assert_int_equal(step(vm, false), DROVER_VM_STEP_TAKE_INITIAL);
    g_ptr_array_remove_index(vm->disks, 1);
    refused(vm, "DRV-SOURCE-MISSING");
}

static void test_tracking_impossible(void **state)
{
    (void)state;
    g_autoptr(DroverVsphereVm) vm = a_vm(false, "");
    add_snapshot(vm, "snapshot-1", "of somebody else");
    refused(vm, "DRV-SOURCE-CBT-SNAPSHOTS");
    vm->has_change_tracking = false;
    refused(vm, "DRV-SOURCE-CBT-IMPOSSIBLE");
    drover_vsphere_set(&vm->version, "vmx-04");
    refused(vm, "DRV-SOURCE-HARDWARE");
}

static void test_quiesce(void **state)
{
    (void)state;
    g_autoptr(DroverVsphereVm) vm = a_vm(true, "");
    DroverVmOrder order = an_order();
    assert_true(drover_vm_can_quiesce(vm, &order));
    order.crash_consistent = true;
    assert_false(drover_vm_can_quiesce(vm, &order));
    order.crash_consistent = false;
    drover_vsphere_set(&vm->power_state, "poweredOff");
    assert_false(drover_vm_can_quiesce(vm, &order));
}

static bool falls_back(const char *message)
{
    g_autoptr(GError) failure = NULL;
    drover_fail(&failure, DROVER_ERROR_RETRYABLE, "%s", message);
    return drover_vm_is_quiesce_failure(failure);
}

/* Only a failure that quiescing explains gives up consistency; others are tried again with it. */
static void test_quiesce_failure(void **state)
{
    (void)state;
    assert_true(falls_back("DRV-VCENTER-QUIESCE: vCenter refused CreateSnapshot_Task of vm-1: x"));
    assert_true(falls_back("DRV-VCENTER-FAULT: vCenter refused: An error occurred while quiescing the virtual machine"));
    assert_false(falls_back("DRV-VCENTER-FAULT: vCenter refused CreateSnapshot_Task of vm-1: no reason"));
    assert_false(falls_back("DRV-VCENTER-UNREACHABLE: quiescing"));
    assert_false(falls_back("DRV-VCENTER-SPACE: datastore full"));
}

static void test_remove(void **state)
{
    (void)state;
    g_autoptr(DroverVsphereVm) vm = a_vm(true, "");
    DroverVmOrder order = an_order();
    const DroverVsphereSnapshot *which = NULL;
    order.snapshot_moref = (char *)"snapshot-1";
    assert_int_equal(drover_vm_remove_step(vm, &order, &which), DROVER_VM_STEP_DONE);
    add_snapshot(vm, "snapshot-1", "of somebody else"); /* under the reference that was ours */
    assert_int_equal(drover_vm_remove_step(vm, &order, &which), DROVER_VM_STEP_DONE);
    add_snapshot(vm, "snapshot-2", "drover-j-r0-init");
    assert_int_equal(drover_vm_remove_step(vm, &order, &which), DROVER_VM_STEP_REMOVE);
    assert_string_equal(which->moref, "snapshot-2");
    add_snapshot(vm, "snapshot-3", "drover-j-r0");
    assert_int_equal(drover_vm_remove_step(vm, &order, &which), DROVER_VM_STEP_REMOVE);
    assert_string_equal(which->moref, "snapshot-3");
    g_ptr_array_set_size(vm->snapshots, 1);
    vm->consolidation_needed = true;
    assert_int_equal(drover_vm_remove_step(vm, &order, &which), DROVER_VM_STEP_CONSOLIDATE);
}

static void off(const DroverVsphereVm *vm, DroverPowerPolicy policy, bool asked, bool late, DroverVmStep wanted)
{
    DroverVmOrder order = an_order();
    g_autoptr(GError) error = NULL;
    order.power_policy = policy;
    assert_int_equal(drover_vm_power_off_step(vm, &order, asked, late, &error), wanted);
    assert_true((wanted == DROVER_VM_STEP_REFUSE) == (error != NULL));
    if (error != NULL)
        assert_true(g_str_has_prefix(error->message, "DRV-SOURCE-POWER-WAIT: "));
}

static void test_power_off(void **state)
{
    (void)state;
    g_autoptr(DroverVsphereVm) vm = a_vm(true, "");
    off(vm, DROVER_POWER_ASK, false, false, DROVER_VM_STEP_SHUT_DOWN);
    off(vm, DROVER_POWER_ASK, true, false, DROVER_VM_STEP_WAIT_OFF);
    off(vm, DROVER_POWER_ASK, true, true, DROVER_VM_STEP_REFUSE);
    off(vm, DROVER_POWER_FORCE, true, true, DROVER_VM_STEP_POWER_OFF);
    off(vm, DROVER_POWER_MANUAL, false, true, DROVER_VM_STEP_WAIT_OFF);
    drover_vsphere_set(&vm->tools_status, "guestToolsNotRunning");
    off(vm, DROVER_POWER_ASK, false, false, DROVER_VM_STEP_REFUSE);
    off(vm, DROVER_POWER_FORCE, false, false, DROVER_VM_STEP_POWER_OFF);
    drover_vsphere_set(&vm->power_state, "suspended");
    off(vm, DROVER_POWER_ASK, false, false, DROVER_VM_STEP_REFUSE);
    drover_vsphere_set(&vm->power_state, "poweredOff");
    off(vm, DROVER_POWER_ASK, true, true, DROVER_VM_STEP_GUARD);
    drover_vsphere_set(&vm->annotation, "notes\n[drover] x");
    off(vm, DROVER_POWER_ASK, false, false, DROVER_VM_STEP_DONE);
}

static void test_power_on(void **state)
{
    (void)state;
    g_autoptr(DroverVsphereVm) vm = a_vm(true, "");
    drover_vsphere_set(&vm->power_state, "poweredOff");
    drover_vsphere_set(&vm->annotation, "[drover] x");
    DroverVmOrder run = {0}, stay = {.stay_off = true};
    assert_int_equal(drover_vm_power_on_step(vm, &run), DROVER_VM_STEP_UNGUARD);
    assert_int_equal(drover_vm_power_on_step(vm, &stay), DROVER_VM_STEP_UNGUARD);
    drover_vsphere_set(&vm->annotation, "");
    assert_int_equal(drover_vm_power_on_step(vm, &run), DROVER_VM_STEP_POWER_ON);
    assert_int_equal(drover_vm_power_on_step(vm, &stay), DROVER_VM_STEP_DONE);
    drover_vsphere_set(&vm->power_state, "poweredOn");
    assert_int_equal(drover_vm_power_on_step(vm, &run), DROVER_VM_STEP_DONE);
}

static void test_annotation(void **state)
{
    (void)state;
    const char *const notes[] = {"", "one", "one\n\ntwo"};
    for (size_t i = 0; i < G_N_ELEMENTS(notes); i++) {
        g_autoptr(DroverVsphereVm) vm = drover_vsphere_vm_new();
        g_autofree char *guarded = drover_vm_guarded_annotation(notes[i], "job-1");
        g_autofree char *twice = drover_vm_guarded_annotation(guarded, "job-1");
        g_autofree char *back = drover_vm_unguarded_annotation(twice);
        drover_vsphere_set(&vm->annotation, guarded);
        assert_true(drover_vm_is_guarded(vm));
        assert_string_equal(guarded, twice);
        assert_string_equal(back, notes[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_snapshot_from_nothing), cmocka_unit_test(test_snapshot_later),
        cmocka_unit_test(test_tracking_impossible),   cmocka_unit_test(test_quiesce),
        cmocka_unit_test(test_quiesce_failure),       cmocka_unit_test(test_remove),                cmocka_unit_test(test_power_off),
        cmocka_unit_test(test_power_on),              cmocka_unit_test(test_annotation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
