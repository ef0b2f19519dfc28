/* SPDX-License-Identifier: Apache-2.0 */
/* Rules about the VM to be: hosts that can run it, how it boots, what CloudStack takes it for, and what an account may have. */
#include <string.h>

#include "core/preflight/target_rules.h"

static bool boots_uefi(const DroverTargetFacts *f)
{
    return g_ascii_strcasecmp(f->boot_type, "UEFI") == 0;
}

/* ---- hosts ---------------------------------------------------------------------------------------------------- */

static bool in_place(const DroverTargetFacts *f, const DroverTargetHost *host)
{
    return !*f->appliance_cluster_id || strcmp(host->cluster_id, f->appliance_cluster_id) == 0;
}

static bool is_large_enough(const DroverTargetFacts *f, const DroverTargetHost *host)
{
    return f->cpus <= host->cpus && f->memory_bytes <= host->memory_bytes;
}

/* How many hosts remain after each demand, in the clusters that the volumes reach, and in others. */
typedef struct {
    guint running, tagged, large, uefi;
} Hosts;

static void count(const DroverTargetFacts *f, Hosts *here, Hosts *elsewhere)
{
    bool anywhere = drover_target_is_zone_wide(f);
    for (guint i = 0; i < f->hosts->len; i++) {
        const DroverTargetHost *host = &g_array_index(f->hosts, DroverTargetHost, i);
        Hosts *to = anywhere || in_place(f, host) ? here : elsewhere;
        bool tagged = host->up && drover_tags_cover(host->tags, f->service_host_tags);
        bool large = tagged && is_large_enough(f, host);
        to->running += host->up;
        to->tagged += tagged;
        to->large += large;
        to->uefi += large && host->uefi;
    }
}

void drover_target_hosts(DroverPreflight *p, const DroverTargetFacts *f)
{
    Hosts here = {0}, elsewhere = {0};
    count(f, &here, &elsewhere);
    const char *cluster = *f->appliance_cluster ? f->appliance_cluster : "of the appliance";
    bool uefi = boots_uefi(f);
    bool fits = here.large && (!uefi || here.uefi);
    if (!fits && (uefi ? elsewhere.uefi : elsewhere.large)) {
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-PLACEMENT", 0,
                    "only hosts of other clusters can run the VM (%s), and its volumes would lie on storage of cluster %s: "
                    "starting it would move their data. Name an agent of such a cluster, or change the service offering",
                    !here.tagged ? "host tags" : !here.large ? "CPUs and memory" : "UEFI", cluster);
        return;
    }
    if (!here.tagged)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-HOSTS", 0,
                    "no host in reach is up, enabled%s%s%s: bring one back, or choose another service offering",
                    *f->service_host_tags ? " and tagged '" : "", f->service_host_tags, *f->service_host_tags ? "'" : "");
    else if (!here.large)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-OFFERING-SIZE", 0,
                    "no host in reach has the %u CPUs and %" G_GUINT64_FORMAT " MiB of service offering '%s': choose a smaller one",
                    f->cpus, f->memory_bytes >> 20, f->service_name);
    else if (uefi && !here.uefi)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-UEFI", 0,
                    "the VM shall boot by UEFI, and no host in reach can do that: install the firmware there and name it in "
                    "the host's uefi.properties");
}

/* ---- boot ----------------------------------------------------------------------------------------------------- */

static bool is_one_of(const char *text, const char *a, const char *b)
{
    return !*text || g_ascii_strcasecmp(text, a) == 0 || g_ascii_strcasecmp(text, b) == 0;
}

void drover_target_firmware(DroverPreflight *p, const DroverTargetFacts *f)
{
    bool uefi = boots_uefi(f), secure = g_ascii_strcasecmp(f->boot_mode, "SECURE") == 0;
    if (!is_one_of(f->boot_type, "BIOS", "UEFI") || !is_one_of(f->boot_mode, "LEGACY", "SECURE") || (secure && !uefi)) {
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-BOOT", 0,
                    "boot_type '%s' with boot_mode '%s' is nothing that CloudStack knows: BIOS, UEFI with LEGACY, or UEFI with "
                    "SECURE", f->boot_type, f->boot_mode);
        return;
    }
    if (*f->firmware && (strcmp(f->firmware, "efi") == 0) != uefi)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-FIRMWARE", 0,
                    "the source boots by %s and the target VM would by %s, which finds no boot loader: set boot_type: %s",
                    uefi ? "BIOS" : "EFI", uefi ? "UEFI" : "BIOS", uefi ? "BIOS" : "UEFI");
    if (secure)
        drover_find(p, DROVER_FINDING_WARNING, "DRV-TARGET-SECURE-BOOT", 0,
                    "CloudStack tells which hosts have UEFI but not which have it with Secure Boot: see that "
                    "guest.loader.secure is set in uefi.properties of those in reach");
    else if (f->secure_boot && uefi)
        drover_find(p, DROVER_FINDING_WARNING, "DRV-TARGET-SECURE-BOOT", 0,
                    "the source boots with Secure Boot and the target would without: set boot_mode: SECURE, unless that is wanted");
}

/* ---- OS type -------------------------------------------------------------------------------------------------- */

void drover_target_os_type(DroverPreflight *p, const DroverTargetFacts *f)
{
    if (*f->os_type_wanted) {
        if (!f->os_type_known)
            drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-OS-TYPE", 0,
                        "CloudStack has no OS type '%s': give the exact description or id of one (listOsTypes)",
                        f->os_type_wanted);
        return;
    }
    const char *fits = *f->guest_id && f->os_types ? drover_os_type_for(f->guest_id, f->os_types) : NULL;
    if (fits && strcmp(fits, f->template_os_type) == 0)
        return;
    if (fits)
        drover_find(p, DROVER_FINDING_WARNING, "DRV-TARGET-OS-TYPE-OTHER", 0,
                    "CloudStack chooses disk and network adapters by the OS type, which would be the template's '%s': set "
                    "os_type: %s, which fits '%s'", f->template_os_type, fits, f->guest_id);
    else if (*f->guest_id && f->os_types)
        drover_find(p, DROVER_FINDING_WARNING, "DRV-TARGET-OS-TYPE-OTHER", 0,
                    "no OS type of this CloudStack fits '%s', and the template's is '%s', by which it chooses disk and network "
                    "adapters: set rootDiskController and nicAdapter in the target's details", f->guest_id,
                    f->template_os_type);
}

/* ---- quota ---------------------------------------------------------------------------------------------------- */

static void check_quota(DroverPreflight *p, const DroverTargetQuota *q, const char *what, int64_t available, uint64_t needed)
{
    if (available >= 0 && needed > (uint64_t)available)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-QUOTA", 0,
                    "account or project %s may have %" G_GINT64_FORMAT " more %s, and %" G_GUINT64_FORMAT
                    " are needed: raise its limit, or free some", q->account, available, what, needed);
}

void drover_target_quotas(DroverPreflight *p, const DroverTargetFacts *f)
{
    uint64_t volumes = 0, gib = 0;
    for (guint i = 0; i < f->disks->len; i++) {
        const DroverTargetDisk *disk = &g_array_index(f->disks, DroverTargetDisk, i);
        uint64_t bytes = disk->custom_size || !disk->offering_bytes ? disk->size_bytes : disk->offering_bytes;
        volumes += !*disk->volume_id;
        gib += *disk->volume_id ? 0 : bytes / DROVER_GIB + (bytes % DROVER_GIB != 0);
    }
    bool makes_vm = f->wants_vm && !*f->vm_id;
    for (guint i = 0; i < f->quotas->len; i++) {
        const DroverTargetQuota *q = &g_array_index(f->quotas, DroverTargetQuota, i);
        bool vm = makes_vm && q->for_vm;
        /* A VM comes with a root disk from its template, until that is replaced. */
        check_quota(p, q, "volumes", q->volumes, (q->for_volumes ? volumes : 0) + vm);
        check_quota(p, q, "GiB of primary storage", q->storage_gib, q->for_volumes ? gib : 0);
        check_quota(p, q, "VMs", q->vms, vm);
        check_quota(p, q, "CPUs", q->cpus, vm ? f->cpus : 0);
        check_quota(p, q, "MiB of memory", q->memory_mib, vm ? f->memory_bytes >> 20 : 0);
    }
}
