/* SPDX-License-Identifier: Apache-2.0 */
#include "core/job/source_vm.h"

#include "core/job/ledger.h"

#define ID_IN_NAME 40

const char *drover_source_action_name(int action)
{
    static const char *const names[] = {"preflight", "snapshot", "remove-snapshot", "power-off", "power-on", "look"};
    return action >= DROVER_SOURCE_PREFLIGHT && action <= DROVER_SOURCE_LOOK ? names[action - 1] : "unknown";
}

bool drover_source_action_undoes(int action)
{
    return action == DROVER_SOURCE_REMOVE_SNAPSHOT || action == DROVER_SOURCE_POWER_ON;
}

bool drover_source_action_changes(int action)
{
    return action != DROVER_SOURCE_PREFLIGHT && action != DROVER_SOURCE_LOOK;
}

char *drover_source_snapshot_name(const DroverJob *job)
{
    if (strlen(job->job_id) <= ID_IN_NAME)
        return g_strdup_printf("drover-%s-r%u", job->job_id, job->round);
    return g_strdup_printf("drover-%.*s-%08x-r%u", ID_IN_NAME, job->job_id, g_str_hash(job->job_id), job->round);
}

char *drover_source_snapshot_description(const DroverJob *job)
{
    return g_strdup_printf("Drover migration job %s, round %u. Drover removes this snapshot itself; remove it by hand only "
                           "when the job is gone.",
                           job->job_id, job->round);
}

const char *drover_source_snapshot(const DroverJob *job)
{
    const DroverLedgerEntry *entry = drover_ledger_find(job, DROVER_LEDGER_SNAPSHOT, "");
    g_autofree char *name = drover_source_snapshot_name(job);
    return entry != NULL && g_str_equal(entry->operation_id, name) ? entry->object_id : "";
}

bool drover_source_is_off(const DroverJob *job)
{
    const DroverLedgerEntry *entry = drover_ledger_find(job, DROVER_LEDGER_SOURCE_POWER, "");
    return entry != NULL && *entry->object_id != '\0';
}

bool drover_source_was_off(const DroverJob *job)
{
    return g_str_equal(job->source.power_state, "poweredOff");
}

bool drover_source_goes_off(const DroverJob *job)
{
    return job->source.present && !job->source.keep_on;
}

DroverTask *drover_source_task(const DroverJob *job)
{
    const DroverDisk *disk = job->disks->len > 0 ? job->disks->pdata[0] : NULL;
    for (guint i = 0; disk != NULL && i < disk->tasks->len; i++) {
        DroverTask *task = disk->tasks->pdata[i];
        if (task->kind == DROVER_TASK_SOURCE_VM && !drover_task_is_ended(task))
            return task;
    }
    return NULL;
}
