/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/vsphere/task.h"

#include <poll.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/log.h"
#include "worker/control.h"
#include "worker/post.h"

#define BUSY_PAUSE_MS 2000
#define CATCH_UP_PAUSE_US (50 * 1000)
#define STEP_TIMES_MAX 4 /* a snapshot needs two: quiesced, then not */
#define TELL_AGAIN_US (60 * G_TIME_SPAN_SECOND)

void drover_vm_task_notice(DroverVmTask *task, const char *level, const char *event, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    g_autofree char *text = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    drover_info(event, text, F_S("job_id", task->task->job_id), F_S("task_id", task->task->task_id),
                F_S("vm", task->order->vm_moref));
    g_autoptr(GBytes) notice = drover_codec_notice(&task->worker->name, task->task, level, event, text);
    drover_post_loose(task->worker->producer, task->worker->events_topic, task->task->job_id, notice);
}

/* What a vSphere task waits for is told when it changes, and now and then while it goes on. */
static void on_progress(void *data, int percent, const char *state, const char *reason)
{
    DroverVmTask *task = data;
    g_autofree char *what = g_strdup_printf("%s%s%s", state == NULL ? "" : state, reason == NULL ? "" : ": ",
                                            reason == NULL ? "" : reason);
    int64_t now = g_get_monotonic_time();
    bool first = task->told == NULL;
    if (!first && strcmp(what, task->told) == 0 && now - task->told_us < TELL_AGAIN_US)
        return;
    g_free(task->told);
    task->told = g_steal_pointer(&what);
    task->told_us = now;
    if (first && strcmp(state == NULL ? "" : state, "queued") != 0) /* quick tasks need no words */
        return;
    if (percent >= 0)
        drover_vm_task_notice(task, "info", "vm.task", "vSphere task on %s: %s, %d %%", task->order->vm_moref,
                              task->told, percent);
    else
        drover_vm_task_notice(task, "info", "vm.task", "vSphere task on %s: %s", task->order->vm_moref, task->told);
}

static bool may_go_on(void *data, GError **error)
{
    DroverVmTask *task = data;
    g_clear_pointer(&task->told, g_free); /* the next vSphere task begins */
    while (!drover_control_is_current(task->worker->control) && !g_cancellable_is_cancelled(task->wait.cancel))
        g_usleep(CATCH_UP_PAUSE_US);
    return drover_running_may_go_on(task->running, error);
}

static bool have_session(DroverVmTask *task, GError **error)
{
    if (task->session == NULL)
        task->session = drover_vcenter_pool_borrow(task->worker->vsphere.vcenters, task->order->vcenter,
                                                   task->wait.cancel, error);
    return task->session != NULL;
}

static bool changes_something(const DroverVmOrder *order)
{
    return order->action != DROVER_VM_PREFLIGHT && order->action != DROVER_VM_LOOK;
}

DroverVsphereVm *drover_vm_task_observe(DroverVmTask *task, GError **error)
{
    const DroverVmOrder *order = task->order;
    if (!have_session(task, error))
        return NULL;
    if (changes_something(order) &&
        !drover_vsphere_wait_idle(task->session->vsphere, order->vm_moref, &task->wait, error))
        return NULL;
    return drover_vsphere_vm(task->session->vsphere, order->vm_moref, order->vm_uuid, task->wait.cancel, error);
}

bool drover_vm_task_pause(DroverVmTask *task, unsigned ms, GError **error)
{
    g_clear_pointer(&task->session, drover_vcenter_session_give_back);
    GPollFD fd;
    if (g_cancellable_make_pollfd(task->wait.cancel, &fd)) {
        g_poll(&fd, 1, (int)ms);
        g_cancellable_release_fd(task->wait.cancel);
    } else {
        g_usleep((gulong)ms * 1000);
    }
    return drover_running_may_go_on(task->running, error) &&
           !g_cancellable_set_error_if_cancelled(task->wait.cancel, error);
}

bool drover_vm_task_has_effect(DroverVmTask *task, DroverVmStep step, GError **error)
{
    task->times = step == task->step ? task->times + 1 : 1;
    task->step = step;
    if (step == DROVER_VM_STEP_WAIT_OFF || task->times <= STEP_TIMES_MAX)
        return true;
    return drover_fail(error, DROVER_ERROR_RETRYABLE,
                       "DRV-VCENTER-FAULT: vCenter says that a change of VM %s was made, %d times, but the VM does not "
                       "show it (step %d)",
                       task->order->vm_moref, STEP_TIMES_MAX, (int)step);
}

bool drover_vm_task_try_again(DroverVmTask *task, GError **failure)
{
    g_autofree char *code = drover_error_code((*failure)->message);
    if (strcmp(code, "DRV-VCENTER-BUSY") != 0)
        return false;
    drover_vm_task_notice(task, "info", "vm.busy", "Somebody else works on VM %s; waiting: %s", task->order->vm_moref,
                          (*failure)->message);
    g_autoptr(GError) stopped = NULL;
    if (!drover_vm_task_pause(task, BUSY_PAUSE_MS, &stopped)) {
        g_error_free(*failure);
        *failure = g_steal_pointer(&stopped);
        return false;
    }
    g_clear_error(failure);
    task->times = 0; /* it was not done */
    return true;
}

static bool of_the_job(const DroverVmOrder *order, int32_t key)
{
    for (size_t i = 0; i < order->n_disk_keys; i++)
        if (order->disk_keys[i] == key)
            return true;
    return order->n_disk_keys == 0;
}

/* vCenter counts what a VM has committed as a whole: thin disks share it by their sizes. An estimate. */
static uint64_t committed_of(const DroverVsphereVm *vm, const DroverVsphereDisk *disk)
{
    uint64_t thin = 0, thick = 0;
    if (!disk->thin)
        return disk->capacity_bytes;
    for (guint i = 0; i < vm->disks->len; i++) {
        const DroverVsphereDisk *other = g_ptr_array_index(vm->disks, i);
        *(other->thin ? &thin : &thick) += other->capacity_bytes;
    }
    uint64_t left = vm->committed_bytes > thick ? vm->committed_bytes - thick : 0;
    double share = thin == 0 ? 0 : (double)disk->capacity_bytes / (double)thin;
    return MIN(disk->capacity_bytes, (uint64_t)((double)left * share));
}

static void put_disks(const DroverVmTask *task, const DroverVmOutcome *outcome, GArray *out, GArray *others)
{
    for (guint i = 0; outcome->disks != NULL && i < outcome->disks->len; i++) {
        const DroverVsphereDisk *disk = g_ptr_array_index(outcome->disks, i);
        if (!of_the_job(task->order, disk->key)) {
            g_array_append_val(others, disk->key);
            continue;
        }
        DroverVmDisk told = {
            .disk_key = disk->key,
            .capacity_bytes = disk->capacity_bytes,
            .change_id = disk->change_id,
            .backing_path = disk->backing_path,
            .datastore = disk->datastore,
            .committed_bytes = committed_of(outcome->vm, disk),
        };
        g_array_append_val(out, told);
    }
}

void drover_vm_task_finish(DroverVmTask *task, const DroverVmOutcome *outcome)
{
    g_autoptr(GArray) disks = g_array_new(false, false, sizeof(DroverVmDisk));
    g_autoptr(GArray) others = g_array_new(false, false, sizeof(int32_t));
    put_disks(task, outcome, disks, others);
    DroverVmResult result = {
        .findings = outcome->findings,
        .n_findings = outcome->n_findings,
        .snapshot_moref = outcome->snapshot_moref == NULL ? "" : outcome->snapshot_moref,
        .quiesced = outcome->quiesced,
        .disks = (const DroverVmDisk *)(const void *)disks->data,
        .n_disks = disks->len,
        .power_state = outcome->vm == NULL ? "" : outcome->vm->power_state,
        .host = outcome->vm == NULL ? "" : outcome->vm->host,
        .snapshot_at_ms = outcome->snapshot_at_ms,
        .firmware = outcome->vm == NULL ? "" : outcome->vm->firmware,
        .secure_boot = outcome->vm != NULL && outcome->vm->secure_boot,
        .guest_id = outcome->vm == NULL ? "" : outcome->vm->guest_id,
        .other_keys = (const int32_t *)(const void *)others->data,
        .n_other_keys = others->len,
    };
    drover_info("vm.task-done", "The task about the source VM is done", F_S("job_id", task->task->job_id),
                F_S("task_id", task->task->task_id), F_U("action", task->order->action),
                F_S("snapshot", result.snapshot_moref));
    g_autoptr(GBytes) event = drover_codec_source_vm(&task->worker->name, task->task, &result);
    drover_handler_publish(task->worker, task->running, event);
}

static bool act(DroverVmTask *task, GError **error)
{
    if (task->worker->vsphere.vcenters == NULL)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-SOURCE-KIND: this worker knows no vCenter; name its file of vCenters in [vsphere] "
                           "vcenters");
    if (changes_something(task->order) && !drover_running_wait_confirmed(task->running, error))
        return false;
    switch (task->order->action) {
    case DROVER_VM_PREFLIGHT:
        return drover_vm_preflight(task, error);
    case DROVER_VM_SNAPSHOT:
        return drover_vm_snapshot(task, error);
    case DROVER_VM_REMOVE_SNAPSHOT:
        return drover_vm_remove_snapshot(task, error);
    case DROVER_VM_POWER_OFF:
        return drover_vm_power_off(task, error);
    case DROVER_VM_POWER_ON:
        return drover_vm_power_on(task, error);
    case DROVER_VM_LOOK:
        return drover_vm_look(task, error);
    }
    return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-TASK-INVALID: action %d is not known", task->order->action);
}

void drover_handle_source_vm(DroverWorker *worker, DroverRunning *running)
{
    DroverVmTask task = {.worker = worker, .running = running, .task = drover_running_task(running)};
    task.order = &task.task->vm;
    task.wait = (DroverVsphereWait){
        .cancel = drover_running_cancellable(running),
        .progress = on_progress,
        .may_go_on = may_go_on,
        .data = &task,
    };
    g_autoptr(GError) error = NULL;
    if (!act(&task, &error))
        drover_handler_unfinished(worker, running, error, NULL);
    drover_vcenter_session_give_back(task.session);
    g_free(task.told);
}
