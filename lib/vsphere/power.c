/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/vsphere/task.h"
#include "lib/vsphere/vsphere.h"

bool drover_vsphere_power_on(DroverVsphere *vsphere, const char *vm, const DroverVsphereWait *wait, GError **error)
{
    return drover_vsphere_do_task(vsphere, drover_soap_writer_new("PowerOnVM_Task", "VirtualMachine", vm), wait, NULL, error);
}

bool drover_vsphere_power_off(DroverVsphere *vsphere, const char *vm, const DroverVsphereWait *wait, GError **error)
{
    return drover_vsphere_do_task(vsphere, drover_soap_writer_new("PowerOffVM_Task", "VirtualMachine", vm), wait, NULL, error);
}

bool drover_vsphere_shutdown_guest(DroverVsphere *vsphere, const char *vm, const DroverVsphereWait *wait, GError **error)
{
    static const DroverVsphereWait nothing = {0};
    DroverVsphereHow how = {.cancel = wait ? wait->cancel : NULL, .wait = wait ? wait : &nothing};
    g_autoptr(DroverSoapAnswer) answer =
        drover_vsphere_call(vsphere, drover_soap_writer_new("ShutdownGuest", "VirtualMachine", vm), &how, error);
    return answer != NULL;
}
