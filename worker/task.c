/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/task.h"

#include <string.h>

void drover_task_free(DroverTask *task)
{
    if (task == NULL)
        return;
    g_free(task->task_id);
    g_free(task->job_id);
    g_free(task->disk_id);
    drover_source_spec_clear(&task->source);
    drover_source_identity_clear(&task->identity);
    g_free(task->areas);
    g_free(task->since_change_id);
    g_free(task->vm.vcenter);
    g_free(task->vm.vm_moref);
    g_free(task->vm.vm_uuid);
    g_free(task->vm.disk_keys);
    g_free(task->vm.snapshot_name);
    g_free(task->vm.snapshot_description);
    g_free(task->vm.snapshot_moref);
    g_strfreev(task->vm.full_hosts);
    g_free(task->done_cells);
    g_free(task->target.volume_id);
    g_free(task->target.host);
    g_free(task->target.export_name);
    if (task->target.token != NULL)
        explicit_bzero(task->target.token, strlen(task->target.token));
    g_free(task->target.token);
    g_free(task);
}

void drover_job_control_free(DroverJobControl *control)
{
    if (control == NULL)
        return;
    for (size_t i = 0; i < control->n_tasks; i++) {
        g_free(control->tasks[i].task_id);
        g_free(control->tasks[i].owner_instance);
    }
    g_free(control->tasks);
    g_free(control->job_id);
    g_free(control);
}
