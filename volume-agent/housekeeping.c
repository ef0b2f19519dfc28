/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/housekeeping.h"

#include <string.h>

#include "lib/base/ids.h"
#include "lib/base/log.h"
#include "volume-agent/reconcile/audit.h"
#include "volume-agent/operations/call.h"
#include "volume-agent/reconcile/history.h"

#define JOB "reconcile"

struct DroverHousekeeping {
    DroverAgent *agent;
    GThread *thread;
    GMutex lock;
    GCond cond;
    bool stop;
    uint64_t number;
    char *last; /* id of the comparison that was asked for last, until it has ended */
};

void drover_agent_differs(void *data, const char *kind, const char *volume_id, const char *vm_id, const char *message,
                          bool repaired)
{
    DroverAgent *agent = data;
    const DroverAuditField fields[] = {{"kind", kind},
                                       {"volume_id", volume_id},
                                       {"vm_id", vm_id},
                                       {"repaired", repaired ? "yes" : "no"},
                                       {NULL, NULL}};
    drover_agent_audit(agent->producer, agent->name, JOB, repaired ? "info" : "warning", "agent.difference", message, fields);
    drover_rest_count_difference(agent->rest, kind, repaired);
}

static bool has_ended(const GPtrArray *ended, const char *operation_id)
{
    for (guint i = 0; i < ended->len; i++)
        if (strcmp(((DroverOperation *)g_ptr_array_index(ended, i))->asked->operation_id, operation_id) == 0)
            return true;
    return false;
}

/* Into the journal and the executor, as the intake does it. */
static void ask_for_comparison(DroverHousekeeping *housekeeping)
{
    DroverAgent *agent = housekeeping->agent;
    g_free(housekeeping->last);
    housekeeping->last = g_strdup_printf("%s-%s-%" G_GUINT64_FORMAT, JOB, agent->instance_id, ++housekeeping->number);
    Drover__V1__ForceSync sync = DROVER__V1__FORCE_SYNC__INIT;
    sync.repair = (bool)drover_config_bool(agent->config, "agent.reconcile-repair");
    Drover__V1__VolumeOperation asked = DROVER__V1__VOLUME_OPERATION__INIT;
    asked.operation_id = housekeeping->last;
    asked.job_id = (char *)JOB;
    asked.requested_at_ms = drover_now_ms();
    asked.requested_by = (char *)"agent";
    asked.operation_case = DROVER__V1__VOLUME_OPERATION__OPERATION_FORCE_SYNC;
    asked.force_sync = &sync;
    size_t len = drover__v1__volume_operation__get_packed_size(&asked);
    g_autofree uint8_t *bytes = g_malloc(len);
    drover__v1__volume_operation__pack(&asked, bytes);
    DroverOperation *operation = drover_operation_new(drover__v1__volume_operation__unpack(NULL, len, bytes));
    operation->sequence = drover_executor_next_sequence(agent->executor);
    operation->accepted_at_ms = drover_now_ms();
    if (drover_op_journal(&agent->context, operation, NULL))
        drover_executor_add(agent->executor, operation);
    else
        drover_operation_free(operation);
}

static void keep_house(DroverHousekeeping *housekeeping)
{
    DroverAgent *agent = housekeeping->agent;
    g_autoptr(GPtrArray) ended = drover_executor_ended(agent->executor);
    if (!housekeeping->last || has_ended(ended, housekeeping->last))
        ask_for_comparison(housekeeping);
    int64_t keep_ms = drover_config_int(agent->config, "agent.keep-operations");
    g_autoptr(GPtrArray) old = drover_history_prunable(ended, drover_now_ms() - keep_ms);
    if (old->len > 0 && drover_executor_prune(agent->executor, old))
        drover_info("journal.pruned", "Forgot operations that ended long ago", F_U("operations", old->len));
}

static gpointer serve(gpointer data)
{
    DroverHousekeeping *housekeeping = data;
    gint64 interval_us = drover_config_int(housekeeping->agent->config, "agent.reconcile-interval") * 1000;
    for (;;) {
        g_mutex_lock(&housekeeping->lock);
        gint64 until = g_get_monotonic_time() + interval_us;
        while (!housekeeping->stop && g_cond_wait_until(&housekeeping->cond, &housekeeping->lock, until))
            ;
        bool stop = housekeeping->stop;
        g_mutex_unlock(&housekeeping->lock);
        if (stop)
            return NULL;
        if (!housekeeping->agent->context.stopping())
            keep_house(housekeeping);
    }
}

DroverHousekeeping *drover_housekeeping_start(DroverAgent *agent)
{
    DroverHousekeeping *housekeeping = g_new0(DroverHousekeeping, 1);
    housekeeping->agent = agent;
    g_mutex_init(&housekeeping->lock);
    g_cond_init(&housekeeping->cond);
    if (drover_config_int(agent->config, "agent.reconcile-interval") > 0)
        housekeeping->thread = g_thread_new("housekeeping", serve, housekeeping);
    return housekeeping;
}

void drover_housekeeping_stop(DroverHousekeeping *housekeeping)
{
    if (!housekeeping)
        return;
    g_mutex_lock(&housekeeping->lock);
    housekeeping->stop = true;
    g_cond_broadcast(&housekeeping->cond);
    g_mutex_unlock(&housekeeping->lock);
    if (housekeeping->thread)
        g_thread_join(housekeeping->thread);
    g_mutex_clear(&housekeeping->lock);
    g_cond_clear(&housekeeping->cond);
    g_free(housekeeping->last);
    g_free(housekeeping);
}
