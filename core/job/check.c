/* SPDX-License-Identifier: Apache-2.0 */
/* The rules that every state of a job obeys. */
#include "core/job/internal.h"

static char *check_disk(const DroverJob *job, const DroverDisk *disk)
{
    bool ended = drover_phase_is_ended(job->phase), undoing = drover_phase_is_undoing(job->phase);
    if (disk->export_open && drover_ledger_find(job, DROVER_LEDGER_EXPORT, disk->disk_id) == NULL)
        return g_strdup_printf("%s: open export not in the ledger", disk->disk_id);
    if (*disk->device_path != '\0' &&
        drover_ledger_find(job, DROVER_LEDGER_ATTACHMENT, disk->disk_id) == NULL)
        return g_strdup_printf("%s: attachment not in the ledger", disk->disk_id);
    if (*disk->volume_id != '\0' && drover_ledger_find(job, DROVER_LEDGER_VOLUME, disk->disk_id) == NULL)
        return g_strdup_printf("%s: volume not in the ledger", disk->disk_id);
    if (job->phase == DROVER_PHASE_COPYING && *disk->receipt == '\0' &&
        (disk->cells == NULL || disk->verify == NULL))
        return g_strdup_printf("%s: copying without cells", disk->disk_id);
    for (guint i = 0; i < disk->tasks->len; i++) {
        const DroverTask *task = disk->tasks->pdata[i];
        if ((ended || (undoing && task->kind != DROVER_TASK_SOURCE_VM)) && !drover_task_is_ended(task))
            return g_strdup_printf("task %s lives in a job that is %s", task->task_id,
                                   drover_phase_name(job->phase));
        if (task->status == DROVER_TASK_CLAIMED && *task->owner_instance == '\0')
            return g_strdup_printf("task %s is claimed by nobody", task->task_id);
        if (drover_task_is_live(task) && task->attempt == 0)
            return g_strdup_printf("task %s is out without an attempt", task->task_id);
    }
    return NULL;
}

char *drover_job_check(const DroverJob *job)
{
    if (job->phase < DROVER_PHASE_SUBMITTED || job->phase > DROVER_PHASE_LAST)
        return g_strdup_printf("phase %d", (int)job->phase);
    if (drover_phase_is_ended(job->phase) && job->operations->len > 0)
        return g_strdup("ended with operations pending");
    if (job->phase == DROVER_PHASE_FAILED && job->error.error_class == 0)
        return g_strdup("failed without an error");
    if (job->phase > DROVER_PHASE_PREPARE && job->phase < DROVER_PHASE_COMPLETED && *job->agent == '\0')
        return g_strdup("no home appliance");
    if (job->operations->len > 0 && *job->agent == '\0')
        return g_strdup("operations without an agent");
    if (*job->vm_id != '\0' && drover_ledger_find(job, DROVER_LEDGER_VM, "") == NULL)
        return g_strdup("VM not in the ledger");
    for (guint i = 0; i < job->operations->len; i++)
        for (guint k = i + 1; k < job->operations->len; k++)
            if (g_str_equal(((const DroverOperation *)job->operations->pdata[i])->disk_id,
                            ((const DroverOperation *)job->operations->pdata[k])->disk_id))
                return g_strdup("two operations on one object");
    for (guint i = 0; i < job->disks->len; i++) {
        char *wrong = check_disk(job, job->disks->pdata[i]);
        if (wrong != NULL)
            return wrong;
    }
    return NULL;
}
