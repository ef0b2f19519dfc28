/* SPDX-License-Identifier: Apache-2.0 */
#include "core/preflight/preflight.h"

const DroverPrivilege drover_privileges[] = {
    {"System.View", "(every role has it)", "find VMs and see their names"},
    {"System.Read", "(every role has it)", "read what VMs, hosts, datastores and networks are like"},
    {"VirtualMachine.Config.ChangeTracking", "Virtual machine > Change Configuration > Toggle disk change tracking",
     "switch changed block tracking on where it is off"},
    {"VirtualMachine.State.CreateSnapshot", "Virtual machine > Snapshot management > Create snapshot",
     "freeze the disks for each round"},
    {"VirtualMachine.State.RemoveSnapshot", "Virtual machine > Snapshot management > Remove snapshot",
     "remove these snapshots, and consolidate disks"},
    {"VirtualMachine.Provisioning.DiskRandomRead", "Virtual machine > Provisioning > Allow read-only disk access",
     "read disks, and ask which areas changed"},
    {"VirtualMachine.Provisioning.GetVmFiles", "Virtual machine > Provisioning > Allow virtual machine download",
     "let VDDK open the VM's disk files"},
    {"VirtualMachine.Interact.PowerOff", "Virtual machine > Interaction > Power off",
     "shut the guest down at cutover, or power it off"},
    {"VirtualMachine.Interact.PowerOn", "Virtual machine > Interaction > Power on", "start the VM again after a roll-back"},
    {"VirtualMachine.Config.EditDevice", "Virtual machine > Change Configuration > Modify device settings",
     "disconnect the network cards of a VM that has moved"},
    {"VirtualMachine.Config.Annotation", "Virtual machine > Change Configuration > Set annotation",
     "write into its notes where it has moved to"},
};
const size_t drover_privileges_n = G_N_ELEMENTS(drover_privileges);

const char *const *drover_privilege_names(void)
{
    static const char *names[G_N_ELEMENTS(drover_privileges) + 1];
    static gsize made;
    if (g_once_init_enter(&made)) {
        for (size_t i = 0; i < drover_privileges_n; i++)
            names[i] = drover_privileges[i].privilege;
        g_once_init_leave(&made, 1);
    }
    return names;
}
