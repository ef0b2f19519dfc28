/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/operations/owner.h"

#include <string.h>

#include "lib/base/error.h"
#include "lib/base/log.h"
#include "volume-agent/operations/call.h"
#include "volume-agent/operations/look.h"
#include "volume-agent/reconcile/history.h"

char *drover_owner_of(const json_t *row)
{
    const char *project = drover_json_text(row, "projectid");
    if (*project)
        return g_strconcat("project/", project, NULL);
    return g_strdup_printf("account/%s/%s", drover_json_text(row, "domainid"), drover_json_text(row, "account"));
}

/* ---- accounts by name ----------------------------------------------------------------------------------------- */

/* The accounts called NAME, in DOMAIN_ID or, when that is "", in any domain: a new array. */
static json_t *accounts_named(const DroverOpContext *context, const char *name, const char *domain_id, GError **error)
{
    const char *const parameters[] = {"name", name, "domainid", domain_id, "listall", "true", NULL};
    json_t *answer = drover_cloudstack_call(context->cloud, "listAccounts", 0, parameters, NULL, error);
    if (!answer)
        return NULL;
    json_t *found = json_array();
    size_t i;
    json_t *account;
    json_array_foreach(json_object_get(answer, "account"), i, account)
        if (strcmp(drover_json_text(account, "name"), name) == 0 &&
            (!*domain_id || strcmp(drover_json_text(account, "domainid"), domain_id) == 0))
            json_array_append(found, account);
    json_decref(answer);
    return found;
}

bool drover_owner_resolve(const DroverOpContext *context, const Drover__V1__TargetSpec *target, DroverOwner *owner, GError **error)
{
    *owner = (DroverOwner){g_strdup(target->account), g_strdup(target->domain_id), g_strdup(target->project_id)};
    if (*target->project_id && (*target->account || *target->domain_id))
        return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-TARGET-ACCOUNT: the job names a project and an account or domain; a VM has one owner");
    if (!*target->account)
        return !*target->domain_id ||
               drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-TARGET-ACCOUNT: the job names domain %s and no account in it", target->domain_id);
    json_t *found = accounts_named(context, target->account, target->domain_id, error);
    if (!found)
        return false;
    size_t n = json_array_size(found);
    if (n == 1)
        drover_set_text(&owner->domain_id, drover_json_text(json_array_get(found, 0), "domainid"));
    json_decref(found);
    if (n == 1)
        return true;
    return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-TARGET-ACCOUNT: CloudStack has %s account '%s'%s%s%s", n ? "more than one" : "no",
                       target->account, *target->domain_id ? " in domain " : "", target->domain_id,
                       n ? "; name its domain, too" : " that this agent may see");
}

void drover_owner_clear(DroverOwner *owner)
{
    g_clear_pointer(&owner->account, g_free);
    g_clear_pointer(&owner->domain_id, g_free);
    g_clear_pointer(&owner->project_id, g_free);
}

/* ---- handing over --------------------------------------------------------------------------------------------- */

static bool was_made_here(const DroverOpContext *context, const char *volume_id)
{
    if (!context->ended)
        return false;
    g_autoptr(GPtrArray) ended = context->ended(context->claim_data);
    g_autoptr(DroverHistory) history = drover_history_new(ended, context->appliance_vm_id);
    const DroverKnownVolume *known = g_hash_table_lookup(history->volumes, volume_id);
    return known && known->made;
}

/*
 * The leader gives away only what is its jobs'. A client of the REST API may name any volume, and this agent's key may move any:
 * so only one that belongs to the appliance's owner, or that was made here.
 */
static bool may_give(const DroverOpContext *context, const DroverOperation *operation, const json_t *volume, GError **error)
{
    const char *id = drover_json_text(volume, "id");
    if (!*operation->asked->requested_by ||
        operation->asked->operation_case == DROVER__V1__VOLUME_OPERATION__OPERATION_CLEANUP_TEST_FAILOVER || was_made_here(context, id))
        return true;
    json_t *appliance = NULL;
    if (!drover_look_vm(context, context->appliance_vm_id, &appliance, error))
        return false;
    g_autofree char *ours = drover_owner_of(appliance);
    g_autofree char *theirs = drover_owner_of(volume);
    json_decref(appliance);
    return strcmp(ours, theirs) == 0 ||
           drover_fail(error, DROVER_ERROR_PERMANENT,
                       "DRV-VOLUME-OWNER: volume %s belongs to %s and was not made by this agent, so it is not handed to anybody else",
                       id, theirs);
}

/* The id of the account that owns ROW; NULL with ERROR. */
static char *account_id_of(const DroverOpContext *context, const json_t *row, GError **error)
{
    const char *name = drover_json_text(row, "account");
    json_t *found = accounts_named(context, name, drover_json_text(row, "domainid"), error);
    if (!found)
        return NULL;
    char *id = g_strdup(drover_json_text(json_array_get(found, 0), "id"));
    json_decref(found);
    if (!*id)
        drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VOLUME-OWNER: CloudStack does not show this agent the account '%s'", name);
    return *id ? id : (g_free(id), NULL);
}

static bool assign(const DroverOpContext *context, DroverOperation *operation, const char *volume_id, const json_t *to, GError **error)
{
    const char *project = drover_json_text(to, "projectid");
    g_autofree char *account = *project ? g_strdup("") : account_id_of(context, to, error);
    if (!account)
        return false;
    g_autofree char *owner = drover_owner_of(to);
    drover_set_text(&operation->wanted, owner);
    drover_info("volume.hand_over", "A volume gets another owner", F_S("volume_id", volume_id), F_S("owner", owner));
    const char *const parameters[] = {"volumeid", volume_id, "accountid", account, "projectid", project, NULL};
    g_autoptr(GError) why = NULL;
    if (!drover_op_call(context, operation, "assignVolume", parameters, NULL, &why)) {
        if (drover_error_class(why) != DROVER_ERROR_PERMANENT)
            g_propagate_error(error, g_steal_pointer(&why));
        else
            drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VOLUME-OWNER: volume %s cannot be handed to %s: %s", volume_id, owner, why->message);
        return false;
    }
    json_t *volume = NULL;
    if (!drover_look_volume(context, volume_id, &volume, error))
        return false;
    g_autofree char *now = volume ? drover_owner_of(volume) : g_strdup("nobody");
    json_decref(volume);
    return strcmp(now, owner) == 0 ||
           drover_fail(error, DROVER_ERROR_RETRYABLE, "Volume %s belongs to %s after it was handed to %s", volume_id, now, owner);
}

/* A missing volume or VM, or one that is attached elsewhere, is nothing to do: whoever attaches them says so. */
bool drover_owner_hand_over(const DroverOpContext *context, DroverOperation *operation, const char *volume_id, const char *vm_id,
                            GError **error)
{
    json_t *volume = NULL, *vm = NULL;
    bool ok = drover_look_volume(context, volume_id, &volume, error) && drover_look_vm(context, vm_id, &vm, error);
    g_autofree char *theirs = volume ? drover_owner_of(volume) : NULL;
    g_autofree char *wanted = vm ? drover_owner_of(vm) : NULL;
    bool attached = *drover_json_text(volume, "virtualmachineid");
    if (ok && !attached && theirs && wanted && strcmp(theirs, wanted) != 0)
        ok = may_give(context, operation, volume, error) && assign(context, operation, volume_id, vm, error);
    json_decref(volume);
    json_decref(vm);
    return ok;
}

bool drover_owner_hand_back(const DroverOpContext *context, DroverOperation *operation, const char *volume_id, GError **error)
{
    g_autoptr(GError) why = NULL;
    if (drover_owner_hand_over(context, operation, volume_id, context->appliance_vm_id, &why))
        return true;
    if (drover_error_class(why) == DROVER_ERROR_PERMANENT) {
        drover_warning("volume.not_handed_back", why->message, F_S("volume_id", volume_id));
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}
