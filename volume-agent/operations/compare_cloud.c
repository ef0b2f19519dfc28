/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "lib/base/error.h"
#include "volume-agent/operations/call.h"
#include "volume-agent/operations/compare_pass.h"
#include "volume-agent/operations/look.h"
#include "volume-agent/operations/operations.h"
#include "volume-agent/reconcile/history.h"

#define PAGE "500" /* the most that CloudStack gives */
#define PAGE_ROWS 500

typedef struct {
    GHashTable *volumes; /* id -> row, of everybody */
    GHashTable *vms;
} Cloud;

static void row_unref(gpointer row)
{
    json_decref(row);
}

/* PROJECTS: "-1" all that is projects', "" all that is not. */
static bool fetch_into(const DroverOpContext *context, const char *command, const char *member, const char *projects,
                       GHashTable *rows, GError **error)
{
    for (unsigned page = 1;; page++) {
        g_autofree char *number = g_strdup_printf("%u", page);
        const char *const parameters[] = {"listall", "true", "projectid", projects, "page", number, "pagesize", PAGE, NULL};
        json_t *answer = drover_cloudstack_call(context->cloud, command, 0, parameters, NULL, error);
        if (!answer)
            return false;
        json_t *array = json_object_get(answer, member), *row;
        size_t i, n = json_array_size(array);
        json_array_foreach(array, i, row)
            g_hash_table_replace(rows, g_strdup(drover_json_text(row, "id")), json_incref(row));
        json_decref(answer);
        if (n < PAGE_ROWS)
            return true;
    }
}

/* All rows of a list command by id, whoever owns them. */
static GHashTable *fetch(const DroverOpContext *context, const char *command, const char *member, GError **error)
{
    g_autoptr(GHashTable) rows = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, row_unref);
    if (!fetch_into(context, command, member, "", rows, error) || !fetch_into(context, command, member, "-1", rows, error))
        return NULL;
    return g_steal_pointer(&rows);
}

/* ---- repairs -------------------------------------------------------------------------------------------------- */

static bool delete_volume(DroverComparePass *pass, const char *id, const void *unused, GError **error)
{
    (void)unused;
    const char *const parameters[] = {"id", id, NULL};
    drover_operation_add_volume(pass->operation, id); /* journalled with the intent: the next pass must not miss it */
    return drover_op_call(pass->context, pass->operation, "deleteVolume", parameters, NULL, error);
}

static bool take_off(DroverComparePass *pass, const char *id, const void *unused, GError **error)
{
    (void)unused;
    return drover_op_take_off(pass->context, pass->operation, id, error);
}

/* DATA: the id of the VM. */
static bool put_back(DroverComparePass *pass, const char *id, const void *data, GError **error)
{
    const char *vm_id = data;
    const char *const parameters[] = {"id", id, "virtualmachineid", vm_id, "deviceid", "0", NULL};
    return drover_op_claim(pass->context, pass->operation, vm_id, error) &&
           drover_op_call(pass->context, pass->operation, "attachVolume", parameters, NULL, error);
}

/* ---- volumes -------------------------------------------------------------------------------------------------- */

static bool differs(DroverComparePass *pass, const char *kind, const char *id, DroverRepair repair, const char *message, GError **error)
{
    const DroverDifference difference = {.kind = kind, .volume_id = id, .message = message, .repair = repair};
    return drover_compare_found(pass, &difference, error);
}

static bool compare_volume(DroverComparePass *pass, const DroverKnownVolume *known, const json_t *row, GError **error)
{
    const char *id = known->id, *state = drover_json_text(row, "state"), *is = drover_json_text(row, "virtualmachineid");
    const char *appliance = pass->context->appliance_vm_id;
    if (!row || strcmp(state, "Expunged") == 0 || strcmp(state, "Expunging") == 0)
        return !known->made || differs(pass, "volume-missing", id, NULL,
                                       "An operation made this volume, none deleted it, and CloudStack does not have it", error);
    if (strcmp(state, "Destroy") == 0)
        return !(known->made || known->tried) ||
               differs(pass, "volume-in-destroy", id, delete_volume,
                       "CloudStack has marked a volume for destruction that an operation made, or failed to make", error);
    if (!known->where || strcmp(known->where, is) == 0)
        return true;
    bool here = strcmp(is, appliance) == 0;
    if (here && !*known->where && known->made)
        return differs(pass, "volume-attached-late", id, take_off,
                       "The volume was taken off the appliance, and is attached to it again", error);
    if (!*is && strcmp(known->where, appliance) == 0)
        return differs(pass, "volume-detached", id, NULL, "The volume was attached to the appliance, and is on no VM now", error);
    return differs(pass, "volume-elsewhere", id, NULL, "The volume is not on the VM that the last operation left it on", error);
}

static bool compare_known(DroverComparePass *pass, const DroverHistory *history, const Cloud *cloud, GError **error)
{
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, history->volumes);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const DroverKnownVolume *known = value;
        if (!compare_volume(pass, known, g_hash_table_lookup(cloud->volumes, known->id), error))
            return false;
    }
    return true;
}

/* Others' volumes on our appliance. */
static bool compare_unknown(DroverComparePass *pass, const DroverHistory *history, const Cloud *cloud, GError **error)
{
    GHashTableIter iter;
    gpointer key, row;
    g_hash_table_iter_init(&iter, cloud->volumes);
    while (g_hash_table_iter_next(&iter, &key, &row)) {
        bool here = strcmp(drover_json_text(row, "virtualmachineid"), pass->context->appliance_vm_id) == 0;
        bool root = strcmp(drover_json_text(row, "type"), "ROOT") == 0;
        if (here && !root && !g_hash_table_contains(history->volumes, key) &&
            !differs(pass, "volume-unknown", key, NULL, "A volume is attached to the appliance that no operation attached", error))
            return false;
    }
    return true;
}

/* ---- what swaps and deployments left -------------------------------------------------------------------------- */

static bool has_root(const Cloud *cloud, const char *vm_id)
{
    GHashTableIter iter;
    gpointer row;
    g_hash_table_iter_init(&iter, cloud->volumes);
    while (g_hash_table_iter_next(&iter, NULL, &row))
        if (strcmp(drover_json_text(row, "virtualmachineid"), vm_id) == 0 && strcmp(drover_json_text(row, "type"), "ROOT") == 0)
            return true;
    return false;
}

static bool compare_old_root(DroverComparePass *pass, const DroverOldRoot *old, const Cloud *cloud, GError **error)
{
    const json_t *row = g_hash_table_lookup(cloud->volumes, old->volume_id), *vm = g_hash_table_lookup(cloud->vms, old->vm_id);
    const char *state = drover_json_text(row, "state");
    if (!row || *drover_json_text(row, "virtualmachineid") || g_str_has_prefix(state, "Expung"))
        return true;
    bool wants_it = vm && !has_root(cloud, old->vm_id) && strcmp(drover_json_text(vm, "state"), "Stopped") == 0;
    const DroverDifference difference = {.kind = "old-root-left", .volume_id = old->volume_id, .vm_id = old->vm_id,
                                         .message = "A root disk from a template, which a swap took off its VM, is still there",
                                         .repair = wants_it ? put_back : delete_volume, .data = old->vm_id};
    return drover_compare_found(pass, &difference, error);
}

static bool compare_vms(DroverComparePass *pass, const DroverHistory *history, const Cloud *cloud, GError **error)
{
    GHashTableIter iter;
    gpointer id;
    g_hash_table_iter_init(&iter, history->vms);
    while (g_hash_table_iter_next(&iter, &id, NULL)) {
        const json_t *vm = g_hash_table_lookup(cloud->vms, id);
        const DroverDifference difference = {
            .kind = "vm-in-error", .vm_id = id, .message = "The deployment of a VM failed and left it in Error: destroy it"};
        if (strcmp(drover_json_text(vm, "state"), "Error") == 0 && !drover_compare_found(pass, &difference, error))
            return false;
    }
    return true;
}

/* What left the appliance while it was being emptied belongs to another agent's jobs by now, whatever becomes of it. */
static void forget_what_moved(const DroverOpContext *context, DroverHistory *history, const GPtrArray *ended)
{
    int64_t horizon_ms = drover_appliance_drain_horizon(context->drain);
    if (!horizon_ms)
        return;
    g_autoptr(GPtrArray) later = g_ptr_array_new();
    for (guint i = 0; i < ended->len; i++)
        if (((const DroverOperation *)g_ptr_array_index(ended, i))->updated_at_ms > horizon_ms)
            g_ptr_array_add(later, g_ptr_array_index(ended, i));
    g_autoptr(DroverHistory) since = drover_history_new(later, context->appliance_vm_id);
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, history->volumes);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const DroverKnownVolume *known = value;
        bool here = g_strcmp0(known->where, context->appliance_vm_id) == 0;
        if (!here && !g_hash_table_contains(since->volumes, known->id))
            g_hash_table_iter_remove(&iter);
    }
}

bool drover_compare_cloud(DroverComparePass *pass, size_t *n_volumes, GError **error)
{
    if (!pass->context->ended)
        return true;
    g_autoptr(GPtrArray) ended = pass->context->ended(pass->context->claim_data);
    g_autoptr(DroverHistory) history = drover_history_new(ended, pass->context->appliance_vm_id);
    forget_what_moved(pass->context, history, ended);
    g_autoptr(GHashTable) volumes = fetch(pass->context, "listVolumes", "volume", error);
    g_autoptr(GHashTable) vms = volumes ? fetch(pass->context, "listVirtualMachines", "virtualmachine", error) : NULL;
    if (!vms)
        return false;
    const Cloud cloud = {volumes, vms};
    *n_volumes = g_hash_table_size(history->volumes);
    bool ok = compare_known(pass, history, &cloud, error) && compare_unknown(pass, history, &cloud, error) &&
              compare_vms(pass, history, &cloud, error);
    for (guint i = 0; ok && i < history->old_roots->len; i++)
        ok = compare_old_root(pass, g_ptr_array_index(history->old_roots, i), &cloud, error);
    return ok;
}
