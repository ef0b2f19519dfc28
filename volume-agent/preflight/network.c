/* SPDX-License-Identifier: Apache-2.0 */
/* Networks of the VM to be, who is in them already, and whether its name is free. */
#include <string.h>

#include "lib/base/ids.h"
#include "volume-agent/preflight/gather.h"

/* The network cards that VMs have in NETWORK_ID. */
static bool look_at_neighbours(DroverGather *g, const char *network_id, GArray **taken, GError **error)
{
    const char *const parameters[] = {"networkid", network_id, "listall", "true", "projectid", g->project_id, NULL};
    json_t *vms = NULL, *vm, *nic;
    size_t i, n;
    if (!drover_gather_list(g, "listVirtualMachines", "virtualmachine", parameters, false, &vms, error))
        return false;
    *taken = drover_gather_array(g, sizeof(DroverTargetTaken));
    json_array_foreach(vms, i, vm)
        json_array_foreach(json_object_get(vm, "nic"), n, nic)
            if (strcmp(drover_json_text(nic, "networkid"), network_id) == 0) {
                DroverTargetTaken card = {drover_json_text(vm, "name"), drover_json_text(nic, "macaddress"),
                                          drover_json_text(nic, "ipaddress")};
                g_array_append_val(*taken, card);
            }
    return true;
}

static bool add_network(DroverGather *g, json_t *rows, const char *wanted, GError **error)
{
    const json_t *row = drover_look_pick(rows, wanted, NULL);
    const json_t *can_deploy = json_object_get(row, "canusefordeploy");
    bool of_account = strcmp(drover_json_text(row, "acltype"), "Account") == 0;
    DroverTargetNetwork network = {
        .wanted = wanted, .name = drover_json_text(row, "name"), .account = of_account ? drover_json_text(row, "account") : "",
        .can_deploy = !json_is_false(can_deploy), .cidr = drover_json_text(row, "cidr"),
        .gateway = drover_json_text(row, "gateway")};
    if (row && g->asked->n_nics && !look_at_neighbours(g, drover_json_text(row, "id"), &network.taken, error))
        return false;
    g_array_append_val(g->facts.networks, network);
    return true;
}

static const char *vpc_of(json_t *networks, const char *network_id)
{
    const json_t *network = *network_id ? drover_look_pick(networks, network_id, NULL) : NULL;
    return drover_json_text(network, "vpcid");
}

/* Two networks in which a name may stand once only: the same one, or tiers of one VPC. */
static bool share_names(json_t *networks, const char *a, const char *b)
{
    const char *vpc = vpc_of(networks, a);
    return strcmp(a, b) == 0 || (*vpc && strcmp(vpc, vpc_of(networks, b)) == 0);
}

/* One of VM's cards is in a network where its name must not stand twice with the VM to be. */
static bool clashes(const DroverGather *g, json_t *networks, const json_t *vm)
{
    size_t n;
    json_t *nic;
    json_array_foreach(json_object_get(vm, "nic"), n, nic)
        for (guint i = 0; i < g->facts.networks->len; i++) {
            const DroverTargetNetwork *ours = &g_array_index(g->facts.networks, DroverTargetNetwork, i);
            const json_t *row = *ours->name ? drover_look_pick(networks, ours->wanted, NULL) : NULL;
            if (row && share_names(networks, drover_json_text(row, "id"), drover_json_text(nic, "networkid")))
                return true;
        }
    return false;
}

static bool look_at_name(DroverGather *g, json_t *networks, GError **error)
{
    const char *const parameters[] = {"keyword", g->asked->name, "listall", "true", "projectid", g->project_id, NULL};
    json_t *vms = NULL, *vm;
    size_t i;
    if (!drover_vm_name_is_valid(g->asked->name))
        return true;
    if (!drover_gather_list(g, "listVirtualMachines", "virtualmachine", parameters, false, &vms, error))
        return false;
    json_array_foreach(vms, i, vm)
        if (g_ascii_strcasecmp(drover_json_text(vm, "name"), g->asked->name) == 0 &&
            strcmp(drover_json_text(vm, "state"), "Expunging") != 0 && clashes(g, networks, vm))
            g->facts.name_taken_by = drover_json_text(vm, "id");
    return true;
}

bool drover_gather_networks(DroverGather *g, GError **error)
{
    const char *const parameters[] = {"zoneid", g->facts.zone_id, "listall", "true", "projectid", g->project_id, NULL};
    const char *const *defaults = g->context->default_networks;
    size_t n_defaults = g_strv_length((char **)defaults);
    json_t *rows = NULL;
    if (!drover_gather_list(g, "listNetworks", "network", parameters, false, &rows, error))
        return false;
    bool own = g->target->n_network_ids > 0;
    size_t n = own ? g->target->n_network_ids : n_defaults;
    for (size_t i = 0; i < MAX(n, 1); i++) {
        const char *wanted = i >= n ? "" : own ? g->target->network_ids[i] : defaults[i];
        if (!add_network(g, rows, wanted, error))
            return false;
    }
    for (size_t i = 0; i < g->asked->n_nics; i++) {
        const Drover__V1__PreflightNic *asked = g->asked->nics[i];
        DroverTargetNic nic = {asked->mac, asked->ip, asked->keep};
        g_array_append_val(g->facts.nics, nic);
    }
    return look_at_name(g, rows, error);
}
