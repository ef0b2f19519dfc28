/* SPDX-License-Identifier: Apache-2.0 */
#include "core/task/task.h"

#include "core/backoff.h"
#include "core/job/source_vm.h"

static void enter(DroverTask *task, DroverTaskStatus status, const DroverAt *at)
{
    task->status = status;
    task->updated_at_ms = at->now_ms;
    task->dirty = true;
}

static void disown(DroverTask *task)
{
    drover_set_string(&task->owner_process, "");
    drover_set_string(&task->owner_instance, "");
    task->partition = -1;
}

static bool is_owner(const DroverTask *task, uint32_t attempt, const char *instance_id)
{
    return task->status == DROVER_TASK_CLAIMED && task->attempt == attempt &&
           g_strcmp0(task->owner_instance, instance_id) == 0;
}

void drover_task_assign(DroverTask *task, const char *process_id, int32_t partition, const DroverAt *at)
{
    g_assert(task->status == DROVER_TASK_READY);
    task->attempt++;
    drover_set_string(&task->owner_process, process_id);
    drover_set_string(&task->owner_instance, "");
    task->partition = partition;
    task->lease_since_ms = at->lease_ms;
    enter(task, DROVER_TASK_ASSIGNED, at);
}

DroverTaskVerdict drover_task_claimed(DroverTask *task, uint32_t attempt, const char *process_id,
                                      const char *instance_id, const DroverAt *at)
{
    if (task->status != DROVER_TASK_ASSIGNED || task->attempt != attempt || instance_id == NULL ||
        *instance_id == '\0')
        return DROVER_TASK_STALE;
    /* A rebalance may have moved the partition: whoever committed the offset is the executor. */
    drover_set_string(&task->owner_process, process_id);
    drover_set_string(&task->owner_instance, instance_id);
    task->lease_since_ms = at->lease_ms;
    enter(task, DROVER_TASK_CLAIMED, at);
    return DROVER_TASK_ACCEPTED;
}

DroverTaskVerdict drover_task_finished(DroverTask *task, uint32_t attempt, const char *instance_id,
                                       const DroverAt *at)
{
    if (!is_owner(task, attempt, instance_id))
        return DROVER_TASK_STALE;
    task->lease_since_ms = at->lease_ms;
    enter(task, drover_task_moves_data(task) ? DROVER_TASK_COPIED : DROVER_TASK_DONE, at);
    return DROVER_TASK_ACCEPTED;
}

/* What must be put back in order is worth more patience than what can fail. */
static uint32_t most_failures(const DroverTask *task, const DroverLimits *limits)
{
    bool undoes = task->kind == DROVER_TASK_SOURCE_VM && drover_source_action_undoes(task->action);
    return undoes ? 10 * limits->max_failures : limits->max_failures;
}

static DroverTaskVerdict count_failure(DroverTask *task, const DroverLimits *limits, const DroverAt *at)
{
    task->failures++;
    disown(task);
    if (task->error.error_class == DROVER_ERROR_PERMANENT || task->failures >= most_failures(task, limits)) {
        enter(task, DROVER_TASK_FAILED, at);
        return DROVER_TASK_GIVEN_UP;
    }
    task->not_before_at_ms = at->now_ms + drover_backoff_ms(task->failures, limits->backoff_first_ms,
                                                            limits->backoff_max_ms, at->random);
    enter(task, DROVER_TASK_READY, at);
    return DROVER_TASK_AGAIN;
}

DroverTaskVerdict drover_task_failed(DroverTask *task, uint32_t attempt, const char *instance_id,
                                     const DroverFault *fault, const DroverLimits *limits, const DroverAt *at)
{
    if (!is_owner(task, attempt, instance_id))
        return DROVER_TASK_STALE;
    drover_fault_copy(&task->error, fault);
    return count_failure(task, limits, at);
}

void drover_task_revoke(DroverTask *task, const DroverAt *at)
{
    if (drover_task_is_ended(task))
        return;
    disown(task);
    task->not_before_at_ms = 0;
    enter(task, DROVER_TASK_READY, at);
}

DroverTaskVerdict drover_task_released(DroverTask *task, uint32_t attempt, const char *instance_id,
                                       const DroverAt *at)
{
    if (!is_owner(task, attempt, instance_id))
        return DROVER_TASK_STALE;
    drover_task_revoke(task, at);
    return DROVER_TASK_AGAIN;
}

void drover_task_seen(DroverTask *task, uint32_t attempt, const char *instance_id, const DroverAt *at)
{
    if (is_owner(task, attempt, instance_id))
        task->lease_since_ms = at->lease_ms;
}

DroverTaskVerdict drover_task_check(DroverTask *task, const DroverFleet *fleet, const DroverLimits *limits,
                                    const DroverAt *at)
{
    int64_t silent_ms = at->lease_ms - task->lease_since_ms;
    if (task->status == DROVER_TASK_ASSIGNED) {
        if (silent_ms < limits->claim_timeout_ms)
            return DROVER_TASK_STALE;
        drover_fault_set(&task->error, DROVER_ERROR_RETRYABLE, "DRV-TASK-UNCLAIMED",
                         "DRV-TASK-UNCLAIMED: worker %s did not claim attempt %u in time",
                         task->owner_process, task->attempt);
        drover_task_revoke(task, at);
        return DROVER_TASK_AGAIN;
    }
    if (task->status != DROVER_TASK_CLAIMED)
        return DROVER_TASK_STALE;
    const DroverProcess *owner = drover_fleet_get(fleet, task->owner_process);
    bool same = owner != NULL && g_strcmp0(owner->instance_id, task->owner_instance) == 0;
    if (same && owner->stopped) {
        drover_task_revoke(task, at);
        return DROVER_TASK_AGAIN;
    }
    if ((owner == NULL || same) && silent_ms < limits->lease_ms)
        return DROVER_TASK_STALE;
    drover_fault_set(&task->error, DROVER_ERROR_RETRYABLE, "DRV-WORKER-LOST",
                     owner != NULL && !same
                         ? "DRV-WORKER-LOST: worker %s was restarted while it ran attempt %u"
                         : "DRV-WORKER-LOST: worker %s went silent while it ran attempt %u",
                     task->owner_process, task->attempt);
    DroverTaskVerdict verdict = count_failure(task, limits, at);
    /* A call to vCenter that was under way when its owner fell silent may still arrive there. */
    if (verdict == DROVER_TASK_AGAIN && task->kind == DROVER_TASK_SOURCE_VM && (same || owner == NULL))
        task->not_before_at_ms += DROVER_SOURCE_CALL_MS;
    return verdict;
}

void drover_task_restart_clocks(DroverTask *task, const DroverAt *at)
{
    task->lease_since_ms = at->lease_ms;
}

void drover_task_done(DroverTask *task, const DroverAt *at)
{
    if (!drover_task_is_ended(task))
        enter(task, DROVER_TASK_DONE, at);
}

void drover_task_cancel(DroverTask *task, const DroverAt *at)
{
    if (drover_task_is_ended(task))
        return;
    disown(task);
    enter(task, DROVER_TASK_CANCELLED, at);
}
