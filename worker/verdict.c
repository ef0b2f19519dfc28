/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/verdict.h"

#include <string.h>

static const DroverLiveTask *find(const DroverJobControl *snapshot, const char *task_id)
{
    for (size_t i = 0; i < snapshot->n_tasks; i++)
        if (strcmp(snapshot->tasks[i].task_id, task_id) == 0)
            return &snapshot->tasks[i];
    return NULL;
}

static DroverVerdict by_desire(DroverDesired desired)
{
    switch (desired) {
    case DROVER_DESIRED_RUN:
        return DROVER_VERDICT_RUN;
    case DROVER_DESIRED_PAUSE:
        return DROVER_VERDICT_RELEASE;
    case DROVER_DESIRED_STOP:
        return DROVER_VERDICT_REVOKED;
    }
    return DROVER_VERDICT_RUN;
}

DroverVerdict drover_verdict(const DroverJobControl *snapshot, const DroverTask *task, const char *instance_id,
                             bool *seen, const DroverLiveTask **live)
{
    if (live != NULL)
        *live = NULL;
    if (snapshot == NULL)
        return *seen ? DROVER_VERDICT_REVOKED : DROVER_VERDICT_RUN;
    const DroverLiveTask *entry = find(snapshot, task->task_id);
    if (entry == NULL) {
        if (*seen || snapshot->at_ms > task->created_at_ms + DROVER_CONTROL_GRACE_MS)
            return DROVER_VERDICT_REVOKED;
        /* Stopping is final, so a snapshot that says so need not be much younger. */
        return snapshot->desired == DROVER_DESIRED_STOP && snapshot->at_ms >= task->created_at_ms
                   ? DROVER_VERDICT_REVOKED
                   : DROVER_VERDICT_RUN;
    }
    if (entry->attempt < task->attempt)
        return DROVER_VERDICT_RUN; /* the snapshot is older than this hand-out */
    if (entry->attempt > task->attempt)
        return DROVER_VERDICT_REVOKED;
    *seen = true;
    if (*entry->owner_instance != '\0' && strcmp(entry->owner_instance, instance_id) != 0)
        return DROVER_VERDICT_REVOKED;
    if (live != NULL)
        *live = entry;
    return by_desire(snapshot->desired);
}
