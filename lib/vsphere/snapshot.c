/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/error.h"
#include "lib/vsphere/fault.h"
#include "lib/vsphere/task.h"
#include "lib/vsphere/vsphere.h"

bool drover_vsphere_create_snapshot(DroverVsphere *vsphere, const char *vm, const char *name, const char *description,
                                    bool quiesce, const DroverVsphereWait *wait, char **snapshot, GError **error)
{
    DroverSoapWriter *request = drover_soap_writer_new("CreateSnapshot_Task", "VirtualMachine", vm);
    drover_soap_put_text(request, "name", name);
    drover_soap_put_text(request, "description", description);
    drover_soap_put_bool(request, "memory", false);
    drover_soap_put_bool(request, "quiesce", quiesce);
    g_autofree char *result = NULL;
    if (!drover_vsphere_do_task(vsphere, request, wait, &result, error))
        return false;
    if (*result == '\0')
        return drover_fail(error, DROVER_ERROR_RETRYABLE,
                           "DRV-VCENTER-FAULT: vCenter made snapshot %s of VM %s without telling its reference", name, vm);
    *snapshot = g_steal_pointer(&result);
    return true;
}

bool drover_vsphere_remove_snapshot(DroverVsphere *vsphere, const char *snapshot, const DroverVsphereWait *wait,
                                    GError **error)
{
    DroverSoapWriter *request = drover_soap_writer_new("RemoveSnapshot_Task", "VirtualMachineSnapshot", snapshot);
    drover_soap_put_bool(request, "removeChildren", false);
    drover_soap_put_bool(request, "consolidate", true);
    g_auto(DroverVsphereOutcome) outcome = {0};
    if (!drover_vsphere_run_task(vsphere, request, wait, &outcome, error))
        return false;
    if (outcome.fault == NULL || drover_vsphere_fault_is(outcome.fault, "ManagedObjectNotFound"))
        return true;
    g_autofree char *what = g_strdup_printf("RemoveSnapshot_Task of %s", snapshot);
    return drover_vsphere_fault_fail(outcome.fault, what, error);
}

bool drover_vsphere_consolidate(DroverVsphere *vsphere, const char *vm, const DroverVsphereWait *wait, GError **error)
{
    return drover_vsphere_do_task(vsphere, drover_soap_writer_new("ConsolidateVMDisks_Task", "VirtualMachine", vm), wait,
                                  NULL, error);
}
