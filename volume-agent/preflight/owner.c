/* SPDX-License-Identifier: Apache-2.0 */
/* Whose things will be, and how many more of them that account or project may have. */
#include <string.h>

#include "lib/base/error.h"
#include "volume-agent/operations/owner.h"
#include "volume-agent/preflight/gather.h"

static void add_quota(DroverGather *g, const json_t *row, bool for_vm, bool for_volumes)
{
    DroverTargetQuota quota = {
        .account = drover_json_text(row, "name"), .for_vm = for_vm, .for_volumes = for_volumes,
        .vms = drover_gather_number(row, "vmavailable", -1), .volumes = drover_gather_number(row, "volumeavailable", -1),
        .storage_gib = drover_gather_number(row, "primarystorageavailable", -1),
        .cpus = drover_gather_number(row, "cpuavailable", -1), .memory_mib = drover_gather_number(row, "memoryavailable", -1),
        .ips = drover_gather_number(row, "ipavailable", -1)};
    g_array_append_val(g->facts.quotas, quota);
}

/* The limits of one owner; nothing where it may not be seen. */
static bool look(DroverGather *g, const char *command, const char *member, const char *const *parameters, bool for_vm,
                 bool for_volumes, GError **error)
{
    json_t *rows = NULL;
    if (!drover_gather_list(g, command, member, parameters, true, &rows, error))
        return false;
    if (json_array_size(rows) == 1)
        add_quota(g, json_array_get(rows, 0), for_vm, for_volumes);
    return true;
}

/* Volumes are made in the account of the agent's key, and handed to the job's owner before the cutover. */
bool drover_gather_owner(DroverGather *g, GError **error)
{
    static const char *const own[] = {NULL};
    g_auto(DroverOwner) owner = {0};
    g_autoptr(GError) why = NULL;
    g->facts.account_known = drover_owner_resolve(g->context, g->target, &owner, &why);
    if (why && drover_error_class(why) == DROVER_ERROR_RETRYABLE) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    g->facts.account_problem = why ? drover_gather_text(g, g_strdup(why->message)) : NULL;
    bool other = !why && (*owner.account || *owner.project_id);
    if (!look(g, "listAccounts", "account", own, !other, true, error))
        return false;
    g->project_id = g_strdup(owner.project_id);
    const char *const project[] = {"id", owner.project_id, "listall", "true", NULL};
    const char *const account[] = {"name", owner.account, "domainid", owner.domain_id, "listall", "true", NULL};
    if (!other)
        return true;
    return *owner.project_id ? look(g, "listProjects", "project", project, true, true, error)
                             : look(g, "listAccounts", "account", account, true, true, error);
}
