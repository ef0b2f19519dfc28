/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/inventory.h"

#include <string.h>

#include "lib/base/error.h"

#define NFC_PORT 902
#define REACH_TIMEOUT_S 5

void drover_inventory_clear(DroverInventory *inventory)
{
    g_clear_pointer(&inventory->vsphere, drover_vsphere_close);
    g_clear_pointer(&inventory->vcenter, drover_vcenter_free);
    g_clear_pointer(&inventory->reached, g_hash_table_unref);
    g_clear_pointer(&inventory->vcenter_name, g_free);
    g_clear_pointer(&inventory->vcenters_file, g_free);
}

static bool choose(DroverInventory *inventory, const char *file, GError **error)
{
    g_auto(GStrv) names = drover_vcenter_names(file, error);
    if (!names)
        return false;
    if (g_strv_length(names) == 1) {
        inventory->vcenter_name = g_strdup(names[0]);
        return true;
    }
    g_autofree char *list = g_strjoinv(", ", names);
    return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VCENTER-UNKNOWN: %s has %s%s: name one with --vcenter", file,
                       *names ? "several vCenters, " : "no vCenter", list);
}

bool drover_inventory_open(DroverInventory *inventory, const DroverSession *session, GError **error)
{
    const char *file = inventory->vcenters_file ? inventory->vcenters_file
                                                : drover_config_string(session->config, "vsphere.vcenters");
    if (!inventory->vcenter_name && !choose(inventory, file, error))
        return false;
    inventory->vcenter = drover_vcenter_load(file, inventory->vcenter_name, error);
    if (inventory->vcenter)
        inventory->vsphere = drover_vsphere_open(inventory->vcenter, NULL, error);
    return inventory->vsphere != NULL;
}

/* Names may hold what a glob gives a meaning to. */
static bool is_meant(const DroverVsphereVm *vm, const char *text)
{
    return strcmp(vm->name, text) == 0 || strcmp(vm->moref, text) == 0 || strcmp(vm->inventory_path, text) == 0 ||
           g_ascii_strcasecmp(vm->instance_uuid, text) == 0 || g_ascii_strcasecmp(vm->bios_uuid, text) == 0;
}

DroverVsphereVm *drover_inventory_vm(DroverInventory *inventory, const char *text, GError **error)
{
    bool special = strpbrk(text, "*?[\\") != NULL;
    g_autoptr(GPtrArray) vms = drover_vsphere_vms(inventory->vsphere, special ? NULL : text, NULL, error);
    if (!vms)
        return NULL;
    g_autoptr(GString) many = g_string_new(NULL);
    const DroverVsphereVm *found = NULL;
    guint count = 0;
    for (guint i = 0; i < vms->len; i++) {
        const DroverVsphereVm *vm = g_ptr_array_index(vms, i);
        if (!is_meant(vm, text))
            continue;
        found = vm;
        if (count++ < 10)
            g_string_append_printf(many, "\n  %s  %s", vm->moref, vm->inventory_path);
    }
    if (count == 1)
        return drover_vsphere_vm(inventory->vsphere, found->moref, found->instance_uuid, NULL, error);
    if (!count)
        drover_fail(error, DROVER_ERROR_PERMANENT,
                    "DRV-VM-NAME: vCenter %s shows no VM of the name, inventory path, UUID or moref '%s' to user %s; 'drover "
                    "discover' lists them", inventory->vcenter->name, text, inventory->vcenter->user);
    else
        drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VM-NAME: %u VMs are called '%s', name one by its moref or path:%s",
                    count, text, many->str);
    return NULL;
}

static DroverReach reach(DroverInventory *inventory, const char *host)
{
    if (!inventory->reached)
        inventory->reached = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    gpointer known = NULL;
    if (g_hash_table_lookup_extended(inventory->reached, host, NULL, &known))
        return (DroverReach)GPOINTER_TO_INT(known);
    g_autoptr(GSocketClient) client = g_socket_client_new();
    g_socket_client_set_enable_proxy(client, FALSE);
    g_socket_client_set_timeout(client, REACH_TIMEOUT_S);
    g_autoptr(GSocketConnection) connection = g_socket_client_connect_to_host(client, host, NFC_PORT, NULL, NULL);
    DroverReach reached = connection ? DROVER_REACH_OPEN : DROVER_REACH_CLOSED;
    g_hash_table_insert(inventory->reached, g_strdup(host), GINT_TO_POINTER((int)reached));
    return reached;
}

GPtrArray *drover_inventory_preflight(DroverInventory *inventory, const DroverVsphereVm *vm, bool port_902, GError **error)
{
    g_auto(GStrv) missing =
        drover_vsphere_missing_privileges(inventory->vsphere, vm->moref, drover_privilege_names(), NULL, error);
    if (!missing)
        return NULL;
    DroverPreflightFacts more = {.missing_privileges = (const char *const *)missing};
    if (port_902 && *vm->host_address)
        more.port_902 = reach(inventory, vm->host_address);
    return drover_preflight_source(vm, NULL, 0, &more);
}
