/* SPDX-License-Identifier: Apache-2.0 */
#include "core/preflight/preflight.h"

#include <string.h>

#include "core/preflight/findings.h"

const char *drover_severity_name(DroverSeverity severity)
{
    static const char *const names[] = {"info", "warning", "error"};
    return names[severity];
}

void drover_finding_free(DroverFinding *finding)
{
    if (finding)
        g_free(finding->message);
    g_free(finding);
}

static void free_finding(gpointer data)
{
    drover_finding_free(data);
}

void drover_find(DroverPreflight *p, DroverSeverity severity, const char *code, int32_t disk_key, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    DroverFinding *finding = g_new0(DroverFinding, 1);
    *finding = (DroverFinding){severity, code, g_strdup_vprintf(format, args), disk_key};
    va_end(args);
    g_ptr_array_add(p->findings, finding);
}

char *drover_disk_words(const DroverVsphereDisk *disk)
{
    return g_strdup_printf("disk %d (%s)", disk->key, *disk->label ? disk->label : disk->backing_path);
}

static const DroverVsphereDisk *disk_of(const DroverVsphereVm *vm, int32_t key)
{
    for (guint i = 0; i < vm->disks->len; i++) {
        const DroverVsphereDisk *disk = g_ptr_array_index(vm->disks, i);
        if (disk->key == key)
            return disk;
    }
    return NULL;
}

static bool contains(const int32_t *keys, size_t n, int32_t key)
{
    for (size_t i = 0; i < n; i++)
        if (keys[i] == key)
            return true;
    return false;
}

static void choose_disks(DroverPreflight *p, const int32_t *keys, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!disk_of(p->vm, keys[i]))
            drover_find(p, DROVER_FINDING_ERROR, "DRV-SOURCE-DISK-UNKNOWN", keys[i],
                        "the VM has no disk %d: discover it again, its disks have changed", keys[i]);
    for (guint i = 0; i < p->vm->disks->len; i++) {
        const DroverVsphereDisk *disk = g_ptr_array_index(p->vm->disks, i);
        if (!n || contains(keys, n, disk->key)) {
            g_ptr_array_add(p->disks, (gpointer)disk);
            continue;
        }
        g_autofree char *words = drover_disk_words(disk);
        drover_find(p, DROVER_FINDING_WARNING, "DRV-SOURCE-DISK-LEFT-OUT", disk->key,
                    "%s is not in the job and will be missing at the target", words);
    }
    if (!p->vm->disks->len)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-SOURCE-NO-DISKS", 0, "the VM has no disk, there is nothing to copy");
}

GPtrArray *drover_findings_by_severity(GPtrArray *findings)
{
    GPtrArray *sorted = g_ptr_array_new_with_free_func(free_finding);
    for (int severity = DROVER_FINDING_ERROR; severity >= DROVER_FINDING_INFO; severity--)
        for (guint i = 0; i < findings->len; i++) {
            DroverFinding *finding = g_ptr_array_index(findings, i);
            if ((int)finding->severity == severity)
                g_ptr_array_add(sorted, finding);
        }
    return sorted;
}

GPtrArray *drover_preflight_source(const DroverVsphereVm *vm, const int32_t *disk_keys, size_t n,
                                   const DroverPreflightFacts *more)
{
    static const DroverPreflightFacts nothing;
    g_autoptr(GPtrArray) disks = g_ptr_array_new();
    g_autoptr(GPtrArray) findings = g_ptr_array_new();
    DroverPreflight p = {vm, disks, more ? more : &nothing, findings};
    drover_preflight_vm(&p);
    if (!drover_preflight_sees(&p))
        return drover_findings_by_severity(findings);
    choose_disks(&p, disk_keys, n);
    drover_preflight_tracking(&p);
    drover_preflight_disks(&p);
    drover_preflight_place(&p);
    drover_preflight_guest(&p);
    return drover_findings_by_severity(findings);
}

GPtrArray *drover_preflight_room(const DroverVsphereVm *vm, const int32_t *disk_keys, size_t n)
{
    static const DroverPreflightFacts nothing;
    g_autoptr(GPtrArray) disks = g_ptr_array_new();
    g_autoptr(GPtrArray) findings = g_ptr_array_new();
    DroverPreflight p = {vm, disks, &nothing, findings};
    for (guint i = 0; i < vm->disks->len; i++) {
        DroverVsphereDisk *disk = g_ptr_array_index(vm->disks, i);
        if (!n || contains(disk_keys, n, disk->key))
            g_ptr_array_add(disks, disk);
    }
    drover_preflight_datastores(&p);
    return drover_findings_by_severity(findings);
}

bool drover_preflight_stops(const GPtrArray *findings)
{
    for (guint i = 0; i < findings->len; i++)
        if (((const DroverFinding *)g_ptr_array_index(findings, i))->severity == DROVER_FINDING_ERROR)
            return true;
    return false;
}
