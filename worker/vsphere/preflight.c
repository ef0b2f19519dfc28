/* SPDX-License-Identifier: Apache-2.0 */
/* Looks at a source VM and changes nothing; what the facts mean is core/preflight/preflight.h's. */
#include "core/preflight/preflight.h"

#include "lib/base/log.h"
#include "worker/vsphere/task.h"

#define REACH_TIMEOUT_S 10

/* Whether this worker reaches the port that disks are read through. */
static DroverReach reach(const DroverVmTask *task, const DroverVsphereVm *vm)
{
    if (task->worker->nfc_port == 0 || *vm->host_address == '\0')
        return DROVER_REACH_UNKNOWN;
    g_autoptr(GSocketClient) client = g_socket_client_new();
    g_socket_client_set_enable_proxy(client, FALSE);
    g_socket_client_set_timeout(client, REACH_TIMEOUT_S);
    g_autoptr(GError) failure = NULL;
    g_autoptr(GSocketConnection) connection = g_socket_client_connect_to_host(
        client, vm->host_address, (uint16_t)task->worker->nfc_port, task->wait.cancel, &failure);
    if (connection != NULL)
        return DROVER_REACH_OPEN;
    drover_info("vm.host-unreachable", failure->message, F_S("host", vm->host_address),
                F_U("port", task->worker->nfc_port));
    return g_cancellable_is_cancelled(task->wait.cancel) ? DROVER_REACH_UNKNOWN : DROVER_REACH_CLOSED;
}

static void finish(DroverVmTask *task, const DroverVsphereVm *vm, const GPtrArray *findings)
{
    g_autoptr(GArray) told = g_array_new(false, false, sizeof(DroverVmFinding));
    for (guint i = 0; i < findings->len; i++) {
        const DroverFinding *finding = g_ptr_array_index(findings, i);
        DroverVmFinding one = {
            .severity = drover_severity_name(finding->severity),
            .code = finding->code,
            .message = finding->message,
            .disk_key = finding->disk_key,
        };
        g_array_append_val(told, one);
    }
    DroverVmOutcome outcome = {
        .vm = vm,
        .disks = vm->disks,
        .findings = (const DroverVmFinding *)(const void *)told->data,
        .n_findings = told->len,
    };
    drover_vm_task_finish(task, &outcome);
}

bool drover_vm_preflight(DroverVmTask *task, GError **error)
{
    g_autoptr(DroverVsphereVm) vm = drover_vm_task_observe(task, error);
    if (vm == NULL)
        return false;
    g_auto(GStrv) missing = drover_vsphere_missing_privileges(task->session->vsphere, vm->moref,
                                                              drover_privilege_names(), task->wait.cancel, error);
    if (missing == NULL)
        return false;
    bool full = g_strv_contains((const char *const *)task->order->full_hosts, vm->host);
    DroverPreflightFacts more = {
        .nfc_running = full ? task->order->transfers_per_host : 0,
        .nfc_limit = task->order->transfers_per_host,
        .missing_privileges = (const char *const *)missing,
        .port_902 = reach(task, vm),
    };
    g_autoptr(GPtrArray) findings =
        drover_preflight_source(vm, task->order->disk_keys, task->order->n_disk_keys, &more);
    finish(task, vm, findings);
    return true;
}

bool drover_vm_look(DroverVmTask *task, GError **error)
{
    g_autoptr(DroverVsphereVm) vm = drover_vm_task_observe(task, error);
    if (vm == NULL)
        return false;
    g_autoptr(GPtrArray) findings = drover_preflight_room(vm, task->order->disk_keys, task->order->n_disk_keys);
    finish(task, vm, findings);
    return true;
}
