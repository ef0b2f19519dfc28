/* SPDX-License-Identifier: Apache-2.0 */
/* Where volumes and VM would be: the appliance's zone and cluster, storage pools, hosts, and the disks themselves. */
#include <string.h>

#include "lib/base/error.h"
#include "volume-agent/preflight/gather.h"

static uint64_t bytes_of(const json_t *row, const char *name)
{
    return (uint64_t)drover_gather_number(row, name, 0);
}

static bool flag(const json_t *row, const char *name)
{
    return json_is_true(json_object_get(row, name));
}

/* ---- zone and cluster ----------------------------------------------------------------------------------------- */

/* The host of a running VM knows its cluster. A user who may not list hosts sees none. */
static const char *cluster_of(DroverGather *g, const json_t *hosts, const json_t *vm)
{
    const char *host_id = drover_json_text(vm, "hostid");
    size_t i;
    json_t *host;
    json_array_foreach(hosts, i, host)
        if (*host_id && strcmp(drover_json_text(host, "id"), host_id) == 0)
            return drover_json_text(host, "clusterid");
    /* Stopped: it must start where its disks are. */
    for (guint p = 0; p < g->facts.pools->len; p++) {
        const DroverTargetPool *pool = &g_array_index(g->facts.pools, DroverTargetPool, p);
        json_t *volumes = drover_json_text(vm, "id")[0] ? json_object_get(vm, "volumes") : NULL;
        json_array_foreach(volumes, i, host)
            if (strcmp(drover_json_text(host, "storageid"), pool->id) == 0 && strcmp(pool->scope, "CLUSTER") == 0)
                return pool->cluster_id;
    }
    return "";
}

static bool look_at_appliance(DroverGather *g, const json_t *hosts, GError **error)
{
    DroverTargetFacts *f = &g->facts;
    if (!drover_look_vm(g->context, g->context->appliance_vm_id, &g->appliance, error))
        return false;
    f->appliance_known = drover_gather_hold(g, g->appliance) != NULL;
    f->appliance_zone_id = drover_json_text(g->appliance, "zoneid");
    f->hypervisor = drover_json_text(g->appliance, "hypervisor");
    f->appliance_cluster_id = cluster_of(g, hosts, g->appliance);
    size_t i;
    json_t *host;
    json_array_foreach(hosts, i, host)
        if (strcmp(drover_json_text(host, "clusterid"), f->appliance_cluster_id) == 0)
            f->appliance_cluster = drover_json_text(host, "clustername");
    return true;
}

static bool look_at_vm(DroverGather *g, const json_t *hosts, GError **error)
{
    if (!*g->asked->vm_id)
        return true;
    json_t *vm = NULL;
    if (!drover_look_vm(g->context, g->asked->vm_id, &vm, error))
        return false;
    if (!drover_gather_hold(g, vm))
        return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VM-MISSING: CloudStack has no VM %s", g->asked->vm_id);
    json_t *volumes = drover_look_volumes_of(g->context, g->asked->vm_id, error);
    if (!volumes)
        return false;
    json_object_set_new(vm, "volumes", volumes);
    g->facts.vm_cluster_id = cluster_of(g, hosts, vm);
    return true;
}

static bool look_at_zone(DroverGather *g, GError **error)
{
    static const char *const nothing[] = {NULL};
    DroverTargetFacts *f = &g->facts;
    f->zone_id = f->appliance_zone_id;
    if (!*g->target->zone)
        return true;
    json_t *zones = NULL;
    if (!drover_gather_list(g, "listZones", "zone", nothing, false, &zones, error))
        return false;
    f->zone_id = drover_json_text(drover_look_pick(zones, g->target->zone, NULL), "id");
    return true;
}

/* ---- pools and hosts ------------------------------------------------------------------------------------------ */

static void add_pool(GArray *pools, const json_t *row)
{
    const json_t *factor = json_object_get(row, "overprovisionfactor");
    double times = json_is_string(factor) ? g_ascii_strtod(json_string_value(factor), NULL) : json_number_value(factor);
    uint64_t total = bytes_of(row, "disksizetotal");
    DroverTargetPool pool = {
        .id = drover_json_text(row, "id"), .name = drover_json_text(row, "name"), .scope = drover_json_text(row, "scope"),
        .cluster_id = drover_json_text(row, "clusterid"), .zone_id = drover_json_text(row, "zoneid"),
        .tags = drover_json_text(row, "tags"), .up = strcmp(drover_json_text(row, "state"), "Up") == 0,
        .managed = flag(row, "managed"), .size_bytes = total, .used_bytes = bytes_of(row, "disksizeused"),
        .capacity_bytes = (uint64_t)((double)total * (times >= 1 && times <= 1000 ? times : 1)),
        .allocated_bytes = bytes_of(row, "disksizeallocated")};
    g_array_append_val(pools, pool);
}

static void add_host(GArray *hosts, const json_t *row)
{
    DroverTargetHost host = {
        .name = drover_json_text(row, "name"), .cluster_id = drover_json_text(row, "clusterid"),
        .tags = drover_json_text(row, "hosttags"), .uefi = flag(row, "ueficapability"),
        .up = strcmp(drover_json_text(row, "state"), "Up") == 0 && strcmp(drover_json_text(row, "resourcestate"), "Enabled") == 0,
        .cpus = (unsigned)drover_gather_number(row, "cpunumber", 0), .memory_bytes = bytes_of(row, "memorytotal")};
    g_array_append_val(hosts, host);
}

bool drover_gather_place(DroverGather *g, GError **error)
{
    static const char *const nothing[] = {NULL};
    static const char *const routing[] = {"type", "Routing", NULL};
    json_t *pools = NULL, *hosts = NULL, *row;
    size_t i;
    if (!drover_gather_list(g, "listStoragePools", "storagepool", nothing, true, &pools, error) ||
        !drover_gather_list(g, "listHosts", "host", routing, true, &hosts, error))
        return false;
    g->facts.pools_known = pools != NULL;
    g->facts.hosts_known = hosts != NULL;
    json_array_foreach(pools, i, row)
        add_pool(g->facts.pools, row);
    if (!look_at_appliance(g, hosts, error) || !look_at_zone(g, error) || !look_at_vm(g, hosts, error))
        return false;
    json_array_foreach(hosts, i, row)
        if (strcmp(drover_json_text(row, "zoneid"), g->facts.appliance_zone_id) == 0)
            add_host(g->facts.hosts, row);
    return true;
}

/* ---- disks ---------------------------------------------------------------------------------------------------- */

static bool new_disk(DroverGather *g, const Drover__V1__PreflightDisk *asked, DroverTargetDisk *disk, GError **error)
{
    json_t *row = NULL;
    if (!drover_look_disk_offering_row(g->context, asked->disk_offering, &row, error))
        return false;
    drover_gather_hold(g, row);
    disk->offering = drover_json_text(row, "name");
    disk->tags = drover_json_text(row, "tags");
    disk->custom_size = flag(row, "iscustomized");
    disk->custom_iops = flag(row, "iscustomizediops");
    disk->local = strcmp(drover_json_text(row, "storagetype"), "local") == 0;
    disk->offering_bytes = disk->custom_size ? 0 : bytes_of(row, "disksize") << 30;
    return true;
}

static bool old_disk(DroverGather *g, const Drover__V1__PreflightDisk *asked, DroverTargetDisk *disk, GError **error)
{
    json_t *row = NULL;
    if (!drover_look_volume(g->context, asked->volume_id, &row, error))
        return false;
    if (!drover_gather_hold(g, row))
        return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VOLUME-MISSING: CloudStack has no volume %s", asked->volume_id);
    disk->offering_bytes = bytes_of(row, "size");
    disk->pool_id = drover_json_text(row, "storageid");
    return true;
}

/* Bounds of the whole cloud. Both calls may be closed to the agent, and are not needed otherwise. */
static bool look_at_bounds(DroverGather *g, GError **error)
{
    static const char *const largest[] = {"name", "storage.max.volume.size", NULL};
    json_t *rows = NULL;
    if (!drover_gather_list(g, "listConfigurations", "configuration", largest, true, &rows, error))
        return false;
    g->facts.volume_max_gib = (uint64_t)drover_gather_number(json_array_get(rows, 0), "value", 0);
    g_autoptr(GError) why = NULL;
    json_t *answer = drover_gather_hold(g, drover_cloudstack_call(g->context->cloud, "listCapabilities", 0, NULL, NULL, &why));
    const json_t *capability = json_object_get(answer, "capability");
    g->facts.custom_min_gib = bytes_of(capability, "customdiskofferingminsize");
    g->facts.custom_max_gib = bytes_of(capability, "customdiskofferingmaxsize");
    if (why && drover_error_class(why) == DROVER_ERROR_RETRYABLE) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    return true;
}

bool drover_gather_disks(DroverGather *g, GError **error)
{
    for (size_t i = 0; i < g->asked->n_disks; i++) {
        const Drover__V1__PreflightDisk *asked = g->asked->disks[i];
        const char *wanted = *asked->disk_offering ? asked->disk_offering : g->context->default_disk_offering;
        DroverTargetDisk disk = {.disk_id = asked->disk_id, .disk_key = asked->disk_key, .size_bytes = asked->size_bytes,
                                 .wanted = wanted ? wanted : "", .offering = "", .tags = "", .volume_id = asked->volume_id,
                                 .pool_id = ""};
        if (*asked->volume_id ? !old_disk(g, asked, &disk, error) : !new_disk(g, asked, &disk, error))
            return false;
        g_array_append_val(g->facts.disks, disk);
    }
    return look_at_bounds(g, error);
}
