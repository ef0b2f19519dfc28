/* SPDX-License-Identifier: Apache-2.0 */
/* Sources that belong to a VM: what the spec says of them, and the tasks about the VM as a whole. */
#include "core/job/ledger.h"
#include "core/job/source_vm.h"
#include "scheduler/codec_internal.h"

#define SHUTDOWN_TIMEOUT_MS 600000

const Drover__V1__VsphereSource *codec_vsphere_source(const Drover__V1__DiskSource *source)
{
    return source != NULL && source->kind_case == DROVER__V1__DISK_SOURCE__KIND_VSPHERE ? source->vsphere : NULL;
}

int32_t codec_source_key(const Drover__V1__DiskSource *source)
{
    const Drover__V1__VsphereSource *vsphere = codec_vsphere_source(source);
    return vsphere != NULL ? vsphere->disk_key : 0;
}

void codec_read_source_vm(const Drover__V1__JobSpec *spec, DroverSourceVm *source)
{
    const Drover__V1__VsphereSource *vsphere = spec->n_disks > 0 ? codec_vsphere_source(spec->disks[0]->source) : NULL;
    if (vsphere == NULL)
        return;
    const Drover__V1__SourcePolicy *policy = spec->source_policy;
    source->present = true;
    drover_set_string(&source->vcenter, vsphere->vcenter);
    drover_set_string(&source->vm_moref, vsphere->vm_moref);
    drover_set_string(&source->vm_uuid, vsphere->vm_uuid);
    source->keep_on = policy != NULL && policy->keep_source_on;
    source->snapshot_max_age_ms =
        policy != NULL && policy->snapshot_max_age_ms > 0 ? policy->snapshot_max_age_ms : DROVER_SNAPSHOT_MAX_AGE_MS;
}

void codec_point_at_snapshot(const DroverJob *job, Drover__V1__DiskSource *source)
{
    if (codec_vsphere_source(source) == NULL)
        return;
    char **moref = &source->vsphere->snapshot_moref;
    if (*moref != protobuf_c_empty_string)
        g_free(*moref);
    *moref = g_strdup(drover_source_snapshot(job));
}

static void fill_policy(Drover__V1__SourceVmTask *message, const DroverJob *job)
{
    Drover__V1__JobSpec *spec = codec_unpack_bytes(&drover__v1__job_spec__descriptor, job->spec);
    const Drover__V1__SourcePolicy *policy = spec != NULL ? spec->source_policy : NULL;
    message->shutdown_timeout_ms = SHUTDOWN_TIMEOUT_MS;
    if (policy != NULL) {
        message->crash_consistent = policy->crash_consistent;
        message->power_policy = policy->power;
        if (policy->shutdown_timeout_ms > 0)
            message->shutdown_timeout_ms = policy->shutdown_timeout_ms;
    }
    codec_free(spec);
}

/* The snapshot that TASK is about: the ledger names it, also when it is of an earlier round. */
static void fill_snapshot(GPtrArray *arena, Drover__V1__SourceVmTask *message, const DroverJob *job)
{
    const DroverLedgerEntry *entry = drover_ledger_find(job, DROVER_LEDGER_SNAPSHOT, "");
    if (entry == NULL)
        return;
    message->snapshot_name = entry->operation_id;
    message->snapshot_moref = entry->object_id;
    message->snapshot_description = drover_source_snapshot_description(job);
    g_ptr_array_add(arena, message->snapshot_description);
}

Drover__V1__SourceVmTask *codec_source_vm(GPtrArray *arena, const DroverJob *job, const DroverTask *task)
{
    Drover__V1__SourceVmTask *message = codec_new(arena, Drover__V1__SourceVmTask, DROVER__V1__SOURCE_VM_TASK__INIT);
    message->vcenter = job->source.vcenter;
    message->vm_moref = job->source.vm_moref;
    message->vm_uuid = job->source.vm_uuid;
    message->action = (Drover__V1__SourceVmAction)task->action;
    message->disk_keys = codec_alloc(arena, sizeof(int32_t) * job->disks->len);
    for (guint i = 0; i < job->disks->len; i++)
        message->disk_keys[message->n_disk_keys++] = ((const DroverDisk *)job->disks->pdata[i])->source_key;
    message->stay_off = drover_source_was_off(job);
    fill_policy(message, job);
    fill_snapshot(arena, message, job);
    return message;
}
