/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/preflight-target.h"

#include <string.h>

#include "cli/agent-call.h"
#include "lib/base/error.h"

/* The question, and what its pointers lead to. Texts are the request's and the VM's. */
typedef struct {
    Drover__V1__PreflightTarget asked;
    Drover__V1__TargetSpec target;
    GPtrArray *pool;
} Question;

void drover_request_for_vm(DroverRequest *request, const DroverVsphereVm *vm)
{
    request->name = drover_vm_name_from(vm->name);
    if (!request->name)
        request->name = g_strdup(vm->name);
    for (guint i = 0; i < vm->disks->len; i++) {
        const DroverVsphereDisk *from = g_ptr_array_index(vm->disks, i);
        DroverSource disk = {.kind = DROVER_SOURCE_VSPHERE, .disk_key = from->key, .disk_id = g_strdup_printf("disk%u", i)};
        g_array_append_val(request->disks, disk);
    }
}

static char *or_empty(char *text)
{
    return text ? text : (char *)"";
}

static uint64_t size_of(const DroverSource *disk, const DroverVsphereVm *vm)
{
    if (disk->target_size_bytes || disk->expected_size_bytes)
        return disk->target_size_bytes ? disk->target_size_bytes : disk->expected_size_bytes;
    for (guint i = 0; vm && disk->kind == DROVER_SOURCE_VSPHERE && i < vm->disks->len; i++) {
        const DroverVsphereDisk *known = g_ptr_array_index(vm->disks, i);
        if (known->key == disk->disk_key)
            return known->capacity_bytes;
    }
    return 0;
}

static void add_disks(Question *q, const DroverRequest *request, const DroverVsphereVm *vm)
{
    Drover__V1__PreflightDisk **list = g_new0(Drover__V1__PreflightDisk *, request->disks->len + 1);
    g_ptr_array_add(q->pool, list);
    for (guint i = 0; i < request->disks->len; i++) {
        const DroverSource *from = &g_array_index(request->disks, DroverSource, i);
        list[i] = g_new(Drover__V1__PreflightDisk, 1);
        g_ptr_array_add(q->pool, list[i]);
        drover__v1__preflight_disk__init(list[i]);
        char *number = g_strdup_printf("disk%u", i);
        g_ptr_array_add(q->pool, number);
        list[i]->disk_id = from->disk_id ? from->disk_id : number;
        list[i]->size_bytes = size_of(from, vm);
        list[i]->disk_offering = or_empty(from->disk_offering);
        list[i]->disk_key = from->kind == DROVER_SOURCE_VSPHERE ? from->disk_key : 0;
    }
    q->asked.disks = list;
    q->asked.n_disks = request->disks->len;
}

/* Addresses are told as they are now; nothing says that the target must keep them. */
static void add_nics(Question *q, const DroverVsphereVm *vm)
{
    Drover__V1__PreflightNic **list = g_new0(Drover__V1__PreflightNic *, vm->nics->len + 1);
    g_ptr_array_add(q->pool, list);
    for (guint i = 0; i < vm->nics->len; i++) {
        const DroverVsphereNic *from = g_ptr_array_index(vm->nics, i);
        list[i] = g_new(Drover__V1__PreflightNic, 1);
        g_ptr_array_add(q->pool, list[i]);
        drover__v1__preflight_nic__init(list[i]);
        list[i]->mac = from->mac;
        for (char **address = from->addresses; *address && !*list[i]->ip; address++)
            if (!strchr(*address, ':'))
                list[i]->ip = *address;
    }
    q->asked.nics = list;
    q->asked.n_nics = vm->nics->len;
}

static void ask(Question *q, const DroverRequest *request, const DroverVsphereVm *vm)
{
    drover__v1__preflight_target__init(&q->asked);
    drover__v1__target_spec__init(&q->target);
    drover_request_target(request, &q->target, q->pool);
    q->asked.target = &q->target;
    q->asked.name = or_empty(request->name);
    add_disks(q, request, vm);
    if (!vm)
        return;
    q->asked.firmware = vm->firmware;
    q->asked.secure_boot = vm->secure_boot;
    q->asked.guest_id = vm->guest_id;
    add_nics(q, vm);
}

static void free_finding(gpointer data)
{
    drover_finding_free(data);
}

static GPtrArray *read_findings(const Drover__V1__OperationResult *result)
{
    GPtrArray *findings = g_ptr_array_new_with_free_func(free_finding);
    for (size_t i = 0; result && i < result->n_findings; i++) {
        const Drover__V1__Finding *from = result->findings[i];
        DroverSeverity severity = strcmp(from->severity, "error") == 0     ? DROVER_FINDING_ERROR
                                  : strcmp(from->severity, "warning") == 0 ? DROVER_FINDING_WARNING
                                                                           : DROVER_FINDING_INFO;
        DroverFinding *finding = g_new0(DroverFinding, 1);
        *finding = (DroverFinding){severity, g_intern_string(from->code), g_strdup(from->message), from->disk_key};
        g_ptr_array_add(findings, finding);
    }
    return findings;
}

GPtrArray *drover_preflight_by_agent(DroverSession *session, const DroverRequest *request, const DroverVsphereVm *vm,
                                     bool volumes_only, int64_t timeout_ms, GError **error)
{
    const char *agent = drover_agent_choose(session, request->agent, error);
    if (!agent)
        return NULL;
    g_autoptr(GPtrArray) pool = g_ptr_array_new_with_free_func(g_free);
    Question q = {.pool = pool};
    ask(&q, request, vm);
    q.asked.volumes_only = volumes_only;
    Drover__V1__VolumeOperation operation = DROVER__V1__VOLUME_OPERATION__INIT;
    operation.operation_case = DROVER__V1__VOLUME_OPERATION__OPERATION_PREFLIGHT_TARGET;
    operation.preflight_target = &q.asked;
    Drover__V1__JournalRecord *record = drover_agent_call(session, agent, &operation, timeout_ms, error);
    if (!record)
        return NULL;
    const Drover__V1__JournalOperation *end = record->operation;
    GPtrArray *findings = read_findings(end->result);
    /* It failed for another reason than what it found. */
    if (end->error && !drover_preflight_stops(findings)) {
        drover_fail(error, (DroverErrorClass)end->error->error_class, "%s", end->error->message);
        g_clear_pointer(&findings, g_ptr_array_unref);
    }
    drover__v1__journal_record__free_unpacked(record, NULL);
    return findings;
}
