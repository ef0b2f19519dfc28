/* SPDX-License-Identifier: Apache-2.0 */
/* Rules about the VM as such, and about changed block tracking. */
#include <string.h>

#include "core/preflight/findings.h"

#define TRACKING_HARDWARE 7 /* changed block tracking came with virtual hardware 7 */

static void check_state(DroverPreflight *p)
{
    const DroverVsphereVm *vm = p->vm;
    if (vm->template)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-SOURCE-TEMPLATE", 0,
                    "it is a template, of which no snapshot can be made: convert it to a VM, or deploy one from it");
    if (strcmp(vm->connection_state, "connected") != 0)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-SOURCE-VM-DISCONNECTED", 0,
                    "vCenter calls it '%s': bring its ESXi host and its files back first", vm->connection_state);
    if (strcmp(vm->power_state, "suspended") == 0)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-SOURCE-SUSPENDED", 0,
                    "it is suspended: what its memory holds would be lost. Resume it, or shut it down");
    if (vm->fault_tolerant)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-SOURCE-FAULT-TOLERANT", 0,
                    "Fault Tolerance is on, which forbids snapshots: turn it off for the migration");
    if (vm->pci_passthrough)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-SOURCE-PASSTHROUGH", 0,
                    "it has a PCI passthrough device, which forbids snapshots of a running VM and does not exist at the "
                    "target: remove the device");
}

static void check_rights(DroverPreflight *p)
{
    const char *const *missing = p->more->missing_privileges;
    if (!missing || !*missing)
        return;
    g_autofree char *list = g_strjoinv(", ", (char **)missing);
    drover_find(p, DROVER_FINDING_ERROR, "DRV-SOURCE-RIGHTS", 0,
                "the vCenter user lacks on this VM: %s. Give its role these privileges, propagated to the VM", list);
}

/* What protects data with keys that stay behind. */
static void check_encryption(DroverPreflight *p)
{
    bool any = false;
    for (guint i = 0; i < p->disks->len; i++) {
        const DroverVsphereDisk *disk = g_ptr_array_index(p->disks, i);
        if (!disk->encrypted)
            continue;
        g_autofree char *words = drover_disk_words(disk);
        drover_find(p, DROVER_FINDING_ERROR, "DRV-SOURCE-DISK-ENCRYPTED", disk->key,
                    "%s is encrypted by vSphere: give it a storage policy without encryption", words);
        any = true;
    }
    /* A vTPM encrypts the VM's own files but not its disks. */
    if (p->vm->encrypted && !any)
        drover_find(p, p->vm->vtpm ? DROVER_FINDING_INFO : DROVER_FINDING_WARNING, "DRV-SOURCE-VM-ENCRYPTED", 0,
                    "its configuration is encrypted, its disks are not. Reading it may need the privilege "
                    "Cryptographer.Access and a transport with encryption (nbdssl)");
    if (p->vm->vtpm)
        drover_find(p, DROVER_FINDING_WARNING, "DRV-SOURCE-VTPM", 0,
                    "it has a virtual TPM, whose keys cannot be moved: have recovery keys at hand, and suspend BitLocker "
                    "or remove LUKS bindings to the TPM before the cutover");
}

/* Same firmware there, or the guest does not find its boot loader. */
static void check_firmware(DroverPreflight *p)
{
    const DroverVsphereVm *vm = p->vm;
    bool efi = strcmp(vm->firmware, "efi") == 0;
    if (!efi && strcmp(vm->firmware, "bios") != 0 && *vm->firmware)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-SOURCE-FIRMWARE", 0,
                    "its firmware '%s' has no counterpart at the target; bios and efi have", vm->firmware);
    bool uefi = p->more->target_boot_type && g_ascii_strcasecmp(p->more->target_boot_type, "UEFI") == 0;
    if (p->more->target_known && efi != uefi)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-SOURCE-FIRMWARE-TARGET", 0,
                    "it boots by %s, and the target VM would boot by %s: set boot_type: %s in the job's target",
                    efi ? "EFI" : "BIOS", uefi ? "UEFI" : "BIOS", efi ? "UEFI" : "BIOS");
    bool secure = p->more->target_boot_mode && g_ascii_strcasecmp(p->more->target_boot_mode, "SECURE") == 0;
    if (efi && vm->secure_boot && !(p->more->target_known && uefi && secure))
        drover_find(p, p->more->target_known ? DROVER_FINDING_WARNING : DROVER_FINDING_INFO, "DRV-SOURCE-SECURE-BOOT", 0,
                    "it boots with Secure Boot: set boot_type: UEFI and boot_mode: SECURE in the job's target, and check "
                    "that hosts with UEFI and Secure Boot exist there");
}

bool drover_preflight_sees(const DroverPreflight *p)
{
    const char *const *missing = p->more->missing_privileges;
    return !missing || !(g_strv_contains(missing, "System.Read") || g_strv_contains(missing, "System.View"));
}

void drover_preflight_vm(DroverPreflight *p)
{
    if (!drover_preflight_sees(p)) {
        check_rights(p);
        return;
    }
    check_state(p);
    check_rights(p);
    check_firmware(p);
}

/* ---- changed block tracking ------------------------------------------------------------------------------------ */

static guint hardware(const char *version)
{
    guint64 n = 0;
    return g_str_has_prefix(version, "vmx-") && g_ascii_string_to_unsigned(version + 4, 10, 0, 1000, &n, NULL) ? (guint)n : 0;
}

static guint foreign_snapshots(const DroverPreflight *p, char **names)
{
    const char *prefix = p->more->own_snapshot_prefix ? p->more->own_snapshot_prefix : "drover";
    guint count = 0;
    GString *list = g_string_new(NULL);
    for (guint i = 0; i < p->vm->snapshots->len; i++) {
        const DroverVsphereSnapshot *snapshot = g_ptr_array_index(p->vm->snapshots, i);
        if (g_ascii_strncasecmp(snapshot->name, prefix, strlen(prefix)) == 0)
            continue;
        if (count++ < 3)
            g_string_append_printf(list, "%s'%s'", list->len ? ", " : "", snapshot->name);
    }
    if (count > 3)
        g_string_append_printf(list, " and %u more", count - 3);
    *names = g_string_free(list, FALSE);
    return count;
}

void drover_preflight_tracking(DroverPreflight *p)
{
    const DroverVsphereVm *vm = p->vm;
    guint version = hardware(vm->version);
    if (version < TRACKING_HARDWARE)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-SOURCE-HARDWARE", 0,
                    "virtual hardware '%s' has no changed block tracking, which came with vmx-07: upgrade the VM's "
                    "compatibility while it is off", vm->version);
    else if (!vm->has_change_tracking)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-SOURCE-CBT-IMPOSSIBLE", 0,
                    "vCenter says that this VM supports no changed block tracking: look for devices or host features that "
                    "forbid it");
    g_autofree char *names = NULL;
    guint snapshots = foreign_snapshots(p, &names);
    if (!vm->change_tracking && snapshots)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-SOURCE-CBT-SNAPSHOTS", 0,
                    "changed block tracking is off and cannot be switched on while there are snapshots: %s. Remove them",
                    names);
    else if (!vm->change_tracking)
        drover_find(p, DROVER_FINDING_INFO, "DRV-SOURCE-CBT-OFF", 0,
                    "changed block tracking is off; the job will switch it on, and take and remove a snapshot for that");
    if (vm->change_tracking && snapshots)
        drover_find(p, DROVER_FINDING_WARNING, "DRV-SOURCE-SNAPSHOTS", 0,
                    "it has snapshots already: %s. They slow reading down and are not migrated: remove them if they are not "
                    "needed", names);
    if (vm->consolidation_needed)
        drover_find(p, DROVER_FINDING_WARNING, "DRV-SOURCE-CONSOLIDATION", 0,
                    "its disks need consolidation, left over from a snapshot: consolidate them, or the first round waits "
                    "for that");
    check_encryption(p);
}
