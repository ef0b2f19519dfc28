/* SPDX-License-Identifier: Apache-2.0 */
/* Rules about the guest, as far as it can be judged from outside. */
#include <string.h>

#include "core/preflight/findings.h"

/* Beginnings of guest ids (VirtualMachineGuestOsIdentifier). Old: no virtio drivers, or none that is maintained. */
static const char *const old_guests[] = {
    "dosGuest", "win31", "win95", "win98", "winMe", "winNT", "win2000", "winXP", "winNet", "winVista", "winLonghorn",
    "rhel2", "rhel3", "rhel4", "centosGuest", "centos64Guest", "redhat", "sles8", "sles9", "sles10", "oracleLinuxGuest",
    "other24xLinux", "debian4", "debian5", "ubuntu8", NULL};
static const char *const strange_guests[] = {
    "darwin", "solaris", "netware", "nwGuest", "openServer", "unixWare", "os2", "eComStation", "vmkernel", "freebsd", NULL};

static bool begins(const char *id, const char *const *list)
{
    for (; *list; list++)
        if (g_str_has_prefix(id, *list))
            return true;
    return false;
}

static bool is_windows(const DroverVsphereVm *vm)
{
    return g_str_has_prefix(vm->guest_id, "win") || strcmp(vm->guest_family, "windowsGuest") == 0;
}

static void check_windows(DroverPreflight *p)
{
    drover_find(p, DROVER_FINDING_INFO, "DRV-GUEST-BITLOCKER", 0,
                "whether BitLocker is on cannot be seen from outside: run 'manage-bde -status' in the guest; suspend it, and "
                "keep the recovery key, before the cutover");
    drover_find(p, DROVER_FINDING_INFO, "DRV-GUEST-HIBERNATION", 0,
                "a hibernated or fast-started Windows cannot be converted: run 'powercfg /h off' in the guest, which ends "
                "both");
    drover_find(p, DROVER_FINDING_INFO, "DRV-GUEST-DYNAMIC-DISKS", 0,
                "whether it has dynamic disks cannot be seen from outside: 'diskpart', 'list disk' marks them in the column "
                "Dyn. A boot volume on one may not start at the target");
}

void drover_preflight_guest(DroverPreflight *p)
{
    const DroverVsphereVm *vm = p->vm;
    const char *name = *vm->guest_full_name ? vm->guest_full_name : vm->guest_id;
    if (begins(vm->guest_id, old_guests))
        drover_find(p, DROVER_FINDING_WARNING, "DRV-GUEST-OLD", 0,
                    "for %s there may be no virtio drivers: let the target emulate SATA or IDE disks and an e1000 card, and "
                    "try a test failover first", name);
    if (begins(vm->guest_id, strange_guests))
        drover_find(p, DROVER_FINDING_WARNING, "DRV-GUEST-UNSUPPORTED", 0,
                    "%s is copied but not converted: it starts at the target only if it has drivers for it", name);
    if (!*vm->guest_id || g_str_has_prefix(vm->guest_id, "other") || strcmp(vm->guest_id, "genericLinuxGuest") == 0)
        drover_find(p, DROVER_FINDING_INFO, "DRV-GUEST-UNKNOWN", 0,
                    "vCenter does not know which guest it is ('%s'): set os_type in the job's target", vm->guest_id);
    if (strcmp(vm->power_state, "poweredOn") == 0 && strcmp(vm->tools_status, "guestToolsRunning") != 0)
        drover_find(p, DROVER_FINDING_WARNING, "DRV-GUEST-TOOLS", 0,
                    "VMware Tools do not run: snapshots are crash-consistent, and the guest cannot be shut down from outside. "
                    "Start the tools, or set source_policy: power: force or manual");
    if (is_windows(vm))
        check_windows(p);
}
