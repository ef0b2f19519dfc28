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

/* The project of the job, which the agent may see. */
static bool look_at_project(DroverGather *g, const char *project_id, GError **error)
{
    const char *const parameters[] = {"id", project_id, "listall", "true", NULL};
    DroverCloudFailure failure;
    g_autoptr(GError) why = NULL;
    json_t *rows = drover_gather_hold(g, drover_look_list(g->context, "listProjects", "project", parameters, &failure, &why));
    if (!rows && drover_error_class(why) == DROVER_ERROR_RETRYABLE) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    bool known = json_array_size(rows) == 1;
    if (known)
        add_quota(g, json_array_get(rows, 0), true, true);
    g->facts.account_known = known || (!rows && failure.error_code != 431); /* not to be seen is not unknown */
    g->project_id = g_strdup(g->facts.account_known ? project_id : "");
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
    const char *const account[] = {"name", owner.account, "domainid", owner.domain_id, "listall", "true", NULL};
    if (!other)
        return true;
    return *owner.project_id ? look_at_project(g, owner.project_id, error)
                             : look(g, "listAccounts", "account", account, true, true, error);
}
