/* SPDX-License-Identifier: Apache-2.0 */
#include "core/dispatch/fleet.h"

#define READY_MIN_MS 5000

static void clear_running(void *data)
{
    g_free(((DroverRunning *)data)->task_id);
}

DroverProcess *drover_process_new(const char *process_id, const char *instance_id, DroverRole role,
                                  const char *site)
{
    DroverProcess *process = g_new0(DroverProcess, 1);
    process->process_id = g_strdup(process_id);
    process->instance_id = g_strdup(instance_id);
    process->role = role;
    process->site = g_strdup(site);
    process->scope = g_strdup("");
    process->copy_partitions = g_array_new(false, false, sizeof(int32_t));
    process->source_partitions = g_array_new(false, false, sizeof(int32_t));
    process->running = g_array_new(false, false, sizeof(DroverRunning));
    g_array_set_clear_func(process->running, clear_running);
    return process;
}

void drover_process_free(DroverProcess *process)
{
    if (process == NULL)
        return;
    g_free(process->process_id);
    g_free(process->instance_id);
    g_free(process->site);
    g_free(process->scope);
    g_array_unref(process->copy_partitions);
    g_array_unref(process->source_partitions);
    g_array_unref(process->running);
    g_free(process);
}

DroverFleet *drover_fleet_new(void)
{
    DroverFleet *fleet = g_new0(DroverFleet, 1);
    fleet->processes =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)drover_process_free);
    return fleet;
}

void drover_fleet_free(DroverFleet *fleet)
{
    if (fleet == NULL)
        return;
    g_hash_table_unref(fleet->processes);
    g_free(fleet);
}

const DroverProcess *drover_fleet_heartbeat(DroverFleet *fleet, DroverProcess *heartbeat, int64_t age_ms,
                                            const DroverAt *at)
{
    const DroverProcess *known = drover_fleet_get(fleet, heartbeat->process_id);
    if (known != NULL) {
        bool same = g_str_equal(known->instance_id, heartbeat->instance_id);
        if (same ? heartbeat->sequence < known->sequence : heartbeat->started_at_ms < known->started_at_ms) {
            drover_process_free(heartbeat);
            return NULL;
        }
    }
    heartbeat->seen_lease_ms = at->lease_ms - MAX(age_ms, 0);
    g_hash_table_replace(fleet->processes, heartbeat->process_id, heartbeat);
    return heartbeat;
}

const DroverProcess *drover_fleet_get(const DroverFleet *fleet, const char *process_id)
{
    return g_hash_table_lookup(fleet->processes, process_id);
}

bool drover_process_is_ready(const DroverProcess *process, const DroverAt *at)
{
    int64_t patience = MAX(3 * process->interval_ms, READY_MIN_MS);
    return !process->draining && !process->stopped && at->lease_ms - process->seen_lease_ms < patience;
}

uint32_t drover_fleet_copy_slots(const DroverFleet *fleet, const char *site, const DroverAt *at)
{
    uint32_t slots = 0;
    g_autoptr(GPtrArray) workers = drover_fleet_ready(fleet, DROVER_ROLE_WORKER, site, at);
    for (guint i = 0; i < workers->len; i++)
        slots += ((const DroverProcess *)workers->pdata[i])->copy_slots;
    return slots;
}

const DroverProcess *drover_fleet_agent(const DroverFleet *fleet, const char *agent, const DroverAt *at)
{
    const DroverProcess *newest = NULL;
    g_autoptr(GPtrArray) agents = drover_fleet_ready(fleet, DROVER_ROLE_VOLUME_AGENT, agent, at);
    for (guint i = 0; i < agents->len; i++) {
        const DroverProcess *process = agents->pdata[i];
        if (newest == NULL || process->started_at_ms > newest->started_at_ms)
            newest = process;
    }
    return newest;
}

const DroverProcess *drover_fleet_agent_known(const DroverFleet *fleet, const char *agent)
{
    const DroverProcess *newest = NULL;
    GHashTableIter iter;
    void *value;
    g_hash_table_iter_init(&iter, fleet->processes);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const DroverProcess *process = value;
        if (process->role == DROVER_ROLE_VOLUME_AGENT && g_strcmp0(process->site, agent) == 0 &&
            (newest == NULL || process->started_at_ms > newest->started_at_ms))
            newest = process;
    }
    return newest;
}

static int by_process_id(const void *a, const void *b)
{
    const DroverProcess *const *pa = a, *const *pb = b;
    return g_strcmp0((*pa)->process_id, (*pb)->process_id);
}

GPtrArray *drover_fleet_ready(const DroverFleet *fleet, DroverRole role, const char *site, const DroverAt *at)
{
    GPtrArray *ready = g_ptr_array_new();
    GHashTableIter iter;
    void *value;
    g_hash_table_iter_init(&iter, fleet->processes);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        DroverProcess *process = value;
        if (process->role == role && (site == NULL || g_strcmp0(process->site, site) == 0) &&
            drover_process_is_ready(process, at))
            g_ptr_array_add(ready, process);
    }
    g_ptr_array_sort(ready, by_process_id);
    return ready;
}
