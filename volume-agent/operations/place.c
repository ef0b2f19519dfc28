/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/operations/place.h"

#include <string.h>

#include "lib/base/error.h"
#include "volume-agent/operations/look.h"

/* One row by id; *ROW is a new reference, or NULL when CloudStack does not show it. False: could not be asked. */
static bool look(const DroverOpContext *context, const char *command, const char *member, const char *id, json_t **row, GError **error)
{
    const char *const parameters[] = {"id", id, NULL};
    g_autoptr(GError) why = NULL;
    *row = NULL;
    if (!*id)
        return true;
    json_t *rows = drover_look_list(context, command, member, parameters, NULL, &why);
    if (!rows && drover_error_class(why) == DROVER_ERROR_RETRYABLE) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    *row = json_incref(json_array_get(rows, 0));
    json_decref(rows);
    return true;
}

static bool look_at_cluster(const DroverOpContext *context, char **id, char **name, GError **error)
{
    json_t *appliance = NULL, *host = NULL;
    if (!drover_look_vm(context, context->appliance_vm_id, &appliance, error))
        return false;
    bool ok = look(context, "listHosts", "host", drover_json_text(appliance, "hostid"), &host, error);
    *id = g_strdup(drover_json_text(host, "clusterid"));
    *name = g_strdup(drover_json_text(host, "clustername"));
    json_decref(appliance);
    json_decref(host);
    return ok;
}

static bool judge(const json_t *volume, const json_t *pool, const char *cluster_id, const char *cluster, GError **error)
{
    const char *scope = drover_json_text(pool, "scope");
    if (strcmp(scope, "HOST") == 0)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-TARGET-POOL-LOCAL: volume %s lies on pool %s, storage of a single host: move it to shared storage first",
                           drover_json_text(volume, "id"), drover_json_text(pool, "name"));
    if (strcmp(scope, "CLUSTER") != 0 || !*cluster_id || strcmp(drover_json_text(pool, "clusterid"), cluster_id) == 0)
        return true;
    return drover_fail(error, DROVER_ERROR_PERMANENT,
                       "DRV-TARGET-PLACEMENT: volume %s lies on pool %s of cluster %s, and the appliance is in cluster %s: attaching "
                       "it would move its data. Use an agent of that cluster, or move the volume first",
                       drover_json_text(volume, "id"), drover_json_text(pool, "name"), drover_json_text(pool, "clustername"), cluster);
}

bool drover_place_is_reached(const DroverOpContext *context, const json_t *volume, GError **error)
{
    json_t *pool = NULL;
    if (!look(context, "listStoragePools", "storagepool", drover_json_text(volume, "storageid"), &pool, error))
        return false;
    if (!pool)
        return true;
    g_autofree char *cluster_id = NULL, *cluster = NULL;
    bool ok = look_at_cluster(context, &cluster_id, &cluster, error) && judge(volume, pool, cluster_id, cluster, error);
    json_decref(pool);
    return ok;
}
