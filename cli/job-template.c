/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/job-template.h"

#include <string.h>

#include "cli/request.h"

/* TEXT as the rest of a comment: whatever a name holds, it must not end the line. */
static void comment(GString *out, const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    for (const char *p = valid; *p; p = g_utf8_next_char(p))
        g_string_append_unichar(out, g_unichar_isprint(g_utf8_get_char(p)) ? g_utf8_get_char(p) : ' ');
    g_string_append_c(out, '\n');
}

static void add_disks(GString *out, const DroverVsphereVm *vm)
{
    g_string_append(out, "disks:\n");
    for (guint i = 0; i < vm->disks->len; i++) {
        const DroverVsphereDisk *disk = g_ptr_array_index(vm->disks, i);
        g_autofree char *size = g_format_size_full(disk->capacity_bytes, G_FORMAT_SIZE_IEC_UNITS);
        g_autofree char *about = g_strdup_printf("%s, %s, %s", disk->label, size, disk->backing_path);
        g_string_append_printf(out, "  - key: %-6d  # ", disk->key);
        comment(out, about);
    }
}

static void add_target(GString *out, const DroverVsphereVm *vm)
{
    bool efi = strcmp(vm->firmware, "efi") == 0;
    g_string_append(out, "target:\n");
    g_string_append_printf(out, "  # service_offering: …   # %u CPUs, %" G_GUINT64_FORMAT " MiB\n", vm->cpus,
                           vm->memory_bytes >> 20);
    g_string_append(out, "  # os_type: …            # ");
    comment(out, *vm->guest_full_name ? vm->guest_full_name : vm->guest_id);
    g_string_append_printf(out, "  boot_type: %s\n", efi ? "UEFI" : "BIOS");
    if (efi)
        g_string_append_printf(out, "  boot_mode: %s\n", vm->secure_boot ? "SECURE" : "LEGACY");
    for (guint i = 0; i < vm->nics->len; i++) {
        const DroverVsphereNic *nic = g_ptr_array_index(vm->nics, i);
        g_autofree char *list = nic->addresses ? g_strjoinv(" ", nic->addresses) : g_strdup("");
        g_autofree char *about = g_strdup_printf("%s: %s, MAC %s %s", nic->label, nic->network, nic->mac, list);
        g_string_append(out, i ? "  #                         " : "  # networks: […]         # ");
        comment(out, about);
    }
}

char *drover_job_template(const char *vcenter, const DroverVsphereVm *vm, const GPtrArray *findings)
{
    GString *out = g_string_new("# ");
    comment(out, vm->inventory_path);
    for (guint i = 0; i < findings->len; i++) {
        const DroverFinding *finding = g_ptr_array_index(findings, i);
        g_string_append_printf(out, "# %s %s: ", drover_severity_name(finding->severity), finding->code);
        comment(out, finding->message);
    }
    g_autofree char *name = drover_vm_name_from(vm->name);
    g_string_append_printf(out, "\nname: %s\nvm:\n  vcenter: %s\n  moref: %s\n", name ? name : vm->moref, vcenter, vm->moref);
    if (*vm->instance_uuid)
        g_string_append_printf(out, "  uuid: %s\n", vm->instance_uuid);
    add_disks(out, vm);
    g_string_append(out, "failover: false          # true: hand over and start the target VM after the last round\n"
                         "# round_interval: 15m    # replicate until 'drover failover live'\n"
                         "source_policy:\n  power: ask             # ask, force, manual: when the guest does not shut down\n");
    add_target(out, vm);
    return g_string_free(out, FALSE);
}
