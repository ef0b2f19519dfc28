/* SPDX-License-Identifier: Apache-2.0 */
/* What ReconfigVM_Task is used for. */
#include <string.h>

#include "lib/base/error.h"
#include "lib/vsphere/device.h"
#include "lib/vsphere/fault.h"
#include "lib/vsphere/property.h"
#include "lib/vsphere/task.h"
#include "lib/vsphere/vsphere.h"

static DroverSoapWriter *reconfigure(const char *vm)
{
    DroverSoapWriter *request = drover_soap_writer_new("ReconfigVM_Task", "VirtualMachine", vm);
    drover_soap_put_open(request, "spec", NULL);
    return request;
}

bool drover_vsphere_set_change_tracking(DroverVsphere *vsphere, const char *vm, bool enabled,
                                        const DroverVsphereWait *wait, GError **error)
{
    DroverSoapWriter *request = reconfigure(vm);
    drover_soap_put_bool(request, "changeTrackingEnabled", enabled);
    drover_soap_put_close(request);
    return drover_vsphere_do_task(vsphere, request, wait, NULL, error);
}

/* ---- the guard on a source VM after cutover -------------------------------------------------------------------- */

/* CONNECTED is what a running VM's card is; one that is off has no say in it. */
static void put_connectable(DroverSoapWriter *request, const xmlNode *now, bool wanted, bool is_on)
{
    drover_soap_put_open(request, "connectable", NULL);
    drover_soap_put_bool(request, "startConnected", wanted);
    drover_soap_put_bool(request, "allowGuestControl", drover_soap_bool(now, "allowGuestControl"));
    drover_soap_put_bool(request, "connected", is_on ? wanted : drover_soap_bool(now, "connected"));
    drover_soap_put_close(request);
}

/* The device as vCenter told it, but for its connection: what is left out of an edit is not everywhere taken as unchanged. */
static void put_edit(DroverSoapWriter *request, const xmlNode *device, bool wanted, bool is_on)
{
    static const char *const before[] = {"key", "deviceInfo", "backing", NULL};
    const xmlNode *now = drover_soap_child(device, "connectable");
    g_autofree char *type = drover_soap_type(device);
    drover_soap_put_open(request, "deviceChange", NULL);
    drover_soap_put_text(request, "operation", "edit");
    drover_soap_put_open(request, "device", type);
    bool done = false;
    for (const xmlNode *child = device->children; child; child = child->next) {
        if (child->type != XML_ELEMENT_NODE)
            continue;
        if (!done && !g_strv_contains(before, (const char *)child->name)) {
            put_connectable(request, now, wanted, is_on);
            done = true;
        }
        if (strcmp((const char *)child->name, "connectable") != 0)
            drover_soap_put_copy(request, child);
    }
    if (!done)
        put_connectable(request, now, wanted, is_on);
    drover_soap_put_close(request);
    drover_soap_put_close(request);
}

static bool is_as_wanted(const xmlNode *device, bool wanted, bool is_on)
{
    return drover_soap_bool(device, "connectable.startConnected") == wanted &&
           (!is_on || drover_soap_bool(device, "connectable.connected") == wanted);
}

static DroverVsphereProperties *ask(DroverVsphere *vsphere, const char *vm, GCancellable *cancel, GError **error)
{
    static const char *const paths[] = {"config.hardware.device", "config.annotation", "runtime.powerState", NULL};
    static const DroverVspherePropertySet set = {"VirtualMachine", paths};
    const DroverVsphereQuestion question = {.sets = &set, .n_sets = 1, .object_type = "VirtualMachine", .moref = vm};
    return drover_vsphere_retrieve(vsphere, &question, cancel, error);
}

bool drover_vsphere_guard(DroverVsphere *vsphere, const char *vm, bool nics_connected, const char *annotation,
                          const DroverVsphereWait *wait, GError **error)
{
    g_autoptr(DroverVsphereProperties) all = ask(vsphere, vm, wait ? wait->cancel : NULL, error);
    if (all == NULL)
        return false;
    const DroverVsphereObject *object = drover_vsphere_object(all, vm);
    const xmlNode *devices = drover_vsphere_value(object, "config.hardware.device");
    if (devices == NULL && object != NULL && object->denied != NULL)
        return drover_vsphere_fault_fail(object->denied, "reading the devices of the VM", error);
    if (devices == NULL)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VCENTER-GONE: vCenter tells no devices of VM %s", vm);
    g_autofree char *state = drover_vsphere_value_text(object, "runtime.powerState");
    bool is_on = strcmp(state, "poweredOn") == 0;
    g_autofree char *annotated = drover_vsphere_value_text(object, "config.annotation");
    g_autoptr(DroverSoapWriter) request = reconfigure(vm);
    bool changes = annotation != NULL && strcmp(annotation, annotated) != 0;
    if (changes)
        drover_soap_put_text(request, "annotation", annotation);
    for (const xmlNode *device = drover_vsphere_first_device(devices); device; device = drover_soap_next(device)) {
        if (!drover_vsphere_device_is_nic(device) || is_as_wanted(device, nics_connected, is_on))
            continue;
        put_edit(request, device, nics_connected, is_on);
        changes = true;
    }
    drover_soap_put_close(request);
    return !changes || drover_vsphere_do_task(vsphere, g_steal_pointer(&request), wait, NULL, error);
}
