/* SPDX-License-Identifier: Apache-2.0 */
/* Rules about volumes, their offerings, and the pools on which they come to lie. */
#include <string.h>

#include "core/preflight/target_rules.h"

#define FULL_PERCENT 85 /* CloudStack's default for taking no more volumes onto a pool */

static bool is_new(const DroverTargetDisk *disk)
{
    return !*disk->volume_id;
}

static const DroverTargetPool *pool_of(const DroverTargetFacts *f, const char *id)
{
    for (guint i = 0; *id && i < f->pools->len; i++) {
        const DroverTargetPool *pool = &g_array_index(f->pools, DroverTargetPool, i);
        if (strcmp(pool->id, id) == 0)
            return pool;
    }
    return NULL;
}

static bool is_zone_wide(const DroverTargetPool *pool)
{
    return strcmp(pool->scope, "ZONE") == 0;
}

/* The appliance attaches what lies there without moving it. A cluster that nobody told is not held against a pool. */
static bool in_reach(const DroverTargetFacts *f, const DroverTargetPool *pool)
{
    if (is_zone_wide(pool))
        return strcmp(pool->zone_id, f->appliance_zone_id) == 0;
    return strcmp(pool->scope, "CLUSTER") == 0 &&
           (!*f->appliance_cluster_id || strcmp(pool->cluster_id, f->appliance_cluster_id) == 0);
}

static bool may_take(const DroverTargetPool *pool, const DroverTargetDisk *disk)
{
    return pool->up && strcmp(pool->scope, "HOST") != 0 && drover_tags_cover(pool->tags, disk->tags);
}

bool drover_target_pool_suits(const DroverTargetFacts *f, const DroverTargetPool *pool, const DroverTargetDisk *disk)
{
    return may_take(pool, disk) && in_reach(f, pool);
}

bool drover_target_is_zone_wide(const DroverTargetFacts *f)
{
    for (guint d = 0; d < f->disks->len; d++) {
        const DroverTargetDisk *disk = &g_array_index(f->disks, DroverTargetDisk, d);
        const DroverTargetPool *lies_on = pool_of(f, disk->pool_id);
        if (lies_on && !is_zone_wide(lies_on))
            return false;
        for (guint i = 0; !lies_on && i < f->pools->len; i++) {
            const DroverTargetPool *pool = &g_array_index(f->pools, DroverTargetPool, i);
            if (drover_target_pool_suits(f, pool, disk) && !is_zone_wide(pool))
                return false;
        }
    }
    return true;
}

/* ---- offerings ------------------------------------------------------------------------------------------------ */

static uint64_t gib_up(uint64_t bytes)
{
    return bytes / DROVER_GIB + (bytes % DROVER_GIB != 0);
}

static void check_size(DroverPreflight *p, const DroverTargetFacts *f, const DroverTargetDisk *disk)
{
    uint64_t gib = gib_up(disk->size_bytes);
    uint64_t least = disk->custom_size ? f->custom_min_gib : 0;
    uint64_t most = disk->custom_size && f->custom_max_gib ? f->custom_max_gib : f->volume_max_gib;
    if (f->volume_max_gib && most > f->volume_max_gib)
        most = f->volume_max_gib;
    if (!disk->custom_size && disk->offering_bytes && disk->offering_bytes < disk->size_bytes)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-TOO-SMALL", disk->disk_key,
                    "disk %s needs %" G_GUINT64_FORMAT " GiB, and %s '%s' has %" G_GUINT64_FORMAT
                    " GiB: choose a larger offering, or one of any size",
                    disk->disk_id, gib, is_new(disk) ? "disk offering" : "volume",
                    is_new(disk) ? disk->offering : disk->volume_id, disk->offering_bytes / DROVER_GIB);
    else if (is_new(disk) && gib && ((least && gib < least) || (most && gib > most)))
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-SIZE", disk->disk_key,
                    "disk %s needs %" G_GUINT64_FORMAT " GiB, and CloudStack makes volumes of %" G_GUINT64_FORMAT
                    " to %" G_GUINT64_FORMAT " GiB here: see custom.diskoffering.size.min, .max and storage.max.volume.size",
                    disk->disk_id, gib, MAX(least, 1), most);
}

void drover_target_disks(DroverPreflight *p, const DroverTargetFacts *f)
{
    for (guint i = 0; i < f->disks->len; i++) {
        const DroverTargetDisk *disk = &g_array_index(f->disks, DroverTargetDisk, i);
        if (is_new(disk) && !*disk->offering) {
            drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-DISK-OFFERING", disk->disk_key,
                        "CloudStack has no disk offering %s%s%s for this agent, wanted for disk %s: name one in the job",
                        *disk->wanted ? "'" : "of any size without tags", disk->wanted, *disk->wanted ? "'" : "",
                        disk->disk_id);
            continue;
        }
        if (is_new(disk) && disk->custom_iops)
            drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-DISK-IOPS", disk->disk_key,
                        "disk offering '%s' for disk %s wants IOPS in each request: choose one that has its own",
                        disk->offering, disk->disk_id);
        if (is_new(disk) && disk->local)
            drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-POOL-LOCAL", disk->disk_key,
                        "disk offering '%s' for disk %s is for storage of single hosts, where the VM could run on the "
                        "appliance's host only: choose one for shared storage", disk->offering, disk->disk_id);
        check_size(p, f, disk);
    }
}

/* ---- pools ---------------------------------------------------------------------------------------------------- */

static uint64_t free_of(const DroverTargetPool *pool)
{
    return pool->capacity_bytes > pool->allocated_bytes ? pool->capacity_bytes - pool->allocated_bytes : 0;
}

/* CloudStack's defaults would still take SIZE more bytes there. */
static bool has_ease(const DroverTargetPool *pool, uint64_t size)
{
    return (pool->allocated_bytes + size) / FULL_PERCENT <= pool->capacity_bytes / 100 &&
           (!pool->size_bytes || pool->used_bytes / FULL_PERCENT <= pool->size_bytes / 100);
}

static const char *cluster_words(const DroverTargetFacts *f)
{
    return *f->appliance_cluster ? f->appliance_cluster : "of the appliance";
}

typedef struct {
    guint suits, managed, elsewhere;
    uint64_t most_free;
    bool ease;
    const char *managed_name;
} Choice;

static Choice choose(const DroverTargetFacts *f, const DroverTargetDisk *disk)
{
    Choice c = {0};
    for (guint i = 0; i < f->pools->len; i++) {
        const DroverTargetPool *pool = &g_array_index(f->pools, DroverTargetPool, i);
        if (!may_take(pool, disk))
            continue;
        if (!in_reach(f, pool)) {
            c.elsewhere++;
            continue;
        }
        c.suits++;
        c.most_free = MAX(c.most_free, free_of(pool));
        c.ease = c.ease || has_ease(pool, disk->size_bytes);
        if (pool->managed) {
            c.managed++;
            c.managed_name = pool->name;
        }
    }
    return c;
}

static void check_place(DroverPreflight *p, const DroverTargetFacts *f, const DroverTargetDisk *disk, bool root)
{
    Choice c = choose(f, disk);
    const char *tags = *disk->tags ? disk->tags : "none";
    if (!c.suits && c.elsewhere)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-PLACEMENT", disk->disk_key,
                    "no storage pool that cluster %s reaches takes disk %s (storage tags: %s), only pools of other clusters do: "
                    "it would have to be moved there after the copy. Name an agent of that cluster, or another disk offering",
                    cluster_words(f), disk->disk_id, tags);
    else if (!c.suits)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-POOL", disk->disk_key,
                    "no storage pool that is up takes disk %s (storage tags: %s): end the maintenance, tag a pool, or choose "
                    "another disk offering", disk->disk_id, tags);
    else if (root && c.managed)
        drover_find(p, c.managed == c.suits ? DROVER_FINDING_ERROR : DROVER_FINDING_WARNING, "DRV-TARGET-POOL-MANAGED",
                    disk->disk_key, "disk %s %s come to lie on managed storage (pool %s), from which CloudStack detaches no root "
                    "disk: choose a disk offering whose storage tags lead elsewhere", disk->disk_id,
                    c.managed == c.suits ? "would" : "may", c.managed_name);
    if (c.suits && disk->size_bytes > c.most_free)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-POOL-SPACE", disk->disk_key,
                    "disk %s needs %" G_GUINT64_FORMAT " GiB, and no storage pool in reach has more than %" G_GUINT64_FORMAT
                    " GiB left: make room, or add storage", disk->disk_id, gib_up(disk->size_bytes),
                    c.most_free / DROVER_GIB);
    else if (c.suits && !c.ease)
        drover_find(p, DROVER_FINDING_WARNING, "DRV-TARGET-POOL-SPACE", disk->disk_key,
                    "disk %s would fill every storage pool in reach beyond %d %%, where CloudStack by default takes no more "
                    "volumes (pool.storage.allocated.capacity.disablethreshold, pool.storage.capacity.disablethreshold)",
                    disk->disk_id, FULL_PERCENT);
}

/* All new volumes together against the room of all pools that any of them may go to. */
static void check_total(DroverPreflight *p, const DroverTargetFacts *f)
{
    uint64_t needed = 0, room = 0;
    for (guint d = 0; d < f->disks->len; d++) {
        const DroverTargetDisk *disk = &g_array_index(f->disks, DroverTargetDisk, d);
        needed += is_new(disk) ? disk->size_bytes : 0;
        if (is_new(disk) && disk->size_bytes > choose(f, disk).most_free)
            return; /* told already, for that disk */
    }
    for (guint i = 0; i < f->pools->len; i++) {
        const DroverTargetPool *pool = &g_array_index(f->pools, DroverTargetPool, i);
        bool suits = false;
        for (guint d = 0; d < f->disks->len && !suits; d++)
            suits = drover_target_pool_suits(f, pool, &g_array_index(f->disks, DroverTargetDisk, d));
        room += suits ? free_of(pool) : 0;
    }
    if (needed > room)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-POOL-SPACE", 0,
                    "all disks need %" G_GUINT64_FORMAT " GiB, and the storage pools in reach have %" G_GUINT64_FORMAT
                    " GiB left together: make room, or add storage", gib_up(needed), room / DROVER_GIB);
}

void drover_target_pools(DroverPreflight *p, const DroverTargetFacts *f)
{
    for (guint i = 0; i < f->disks->len; i++) {
        const DroverTargetDisk *disk = &g_array_index(f->disks, DroverTargetDisk, i);
        if (is_new(disk) && *disk->offering && !disk->local)
            check_place(p, f, disk, i == 0 && f->wants_vm);
    }
    check_total(p, f);
}

/* ---- what would move ------------------------------------------------------------------------------------------ */

static void check_volume(DroverPreflight *p, const DroverTargetFacts *f, const DroverTargetDisk *disk, bool root)
{
    const DroverTargetPool *pool = pool_of(f, disk->pool_id);
    if (!pool)
        return;
    if (strcmp(pool->scope, "HOST") == 0)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-POOL-LOCAL", disk->disk_key,
                    "volume %s of disk %s lies on pool %s, storage of a single host: move it to shared storage first",
                    disk->volume_id, disk->disk_id, pool->name);
    else if (!in_reach(f, pool))
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-PLACEMENT", disk->disk_key,
                    "volume %s of disk %s lies on pool %s, which cluster %s does not reach: attaching it to the appliance would "
                    "move its data. Name an agent of the pool's cluster, or move the volume first", disk->volume_id,
                    disk->disk_id, pool->name, cluster_words(f));
    else if (root && pool->managed)
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-POOL-MANAGED", disk->disk_key,
                    "volume %s of disk %s lies on managed storage (pool %s), from which CloudStack detaches no root disk: move it "
                    "to another pool first", disk->volume_id, disk->disk_id, pool->name);
}

void drover_target_placement(DroverPreflight *p, const DroverTargetFacts *f)
{
    for (guint i = 0; i < f->disks->len; i++) {
        const DroverTargetDisk *disk = &g_array_index(f->disks, DroverTargetDisk, i);
        if (!is_new(disk))
            check_volume(p, f, disk, i == 0 && f->wants_vm);
    }
    if (f->wants_vm && *f->vm_cluster_id && *f->appliance_cluster_id &&
        strcmp(f->vm_cluster_id, f->appliance_cluster_id) != 0 && !drover_target_is_zone_wide(f))
        drover_find(p, DROVER_FINDING_ERROR, "DRV-TARGET-PLACEMENT", 0,
                    "VM %s is in another cluster than the appliance, on whose storage (cluster %s) its volumes would lie: "
                    "attaching them would move their data. Name an agent of the VM's cluster", f->vm_id, cluster_words(f));
}
