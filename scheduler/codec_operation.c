/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/codec_internal.h"

static const Drover__V1__DiskSpec *disk_spec(const DroverJob *job, const Drover__V1__JobSpec *spec,
                                             const char *disk_id)
{
    for (guint i = 0; spec != NULL && i < job->disks->len && i < spec->n_disks; i++)
        if (g_strcmp0(((const DroverDisk *)job->disks->pdata[i])->disk_id, disk_id) == 0)
            return spec->disks[i];
    return NULL;
}

static void fill_create(GPtrArray *arena, Drover__V1__VolumeOperation *message, const DroverJob *job,
                        const DroverOperation *op, const Drover__V1__JobSpec *spec)
{
    Drover__V1__CreateVolume *create =
        codec_new(arena, Drover__V1__CreateVolume, DROVER__V1__CREATE_VOLUME__INIT);
    const Drover__V1__DiskSpec *disk = disk_spec(job, spec, op->disk_id);
    message->create_volume = create;
    create->size_bytes = op->size_bytes;
    create->custom_id = op->custom_id;
    if (disk != NULL && *disk->name != '\0') {
        create->name = disk->name;
    } else {
        create->name = g_strdup_printf("%s-%s", job->name, op->disk_id);
        g_ptr_array_add(arena, create->name);
    }
    if (disk != NULL)
        create->disk_offering = disk->disk_offering;
    if (spec != NULL && spec->target != NULL)
        create->zone = spec->target->zone;
}

static void fill_deploy(GPtrArray *arena, Drover__V1__VolumeOperation *message, const DroverJob *job,
                        const DroverOperation *op, const Drover__V1__JobSpec *spec)
{
    Drover__V1__DeployVm *deploy = codec_new(arena, Drover__V1__DeployVm, DROVER__V1__DEPLOY_VM__INIT);
    message->deploy_vm = deploy;
    deploy->name = job->name;
    deploy->custom_id = op->custom_id;
    deploy->target = spec != NULL && spec->target != NULL
                         ? spec->target
                         : codec_new(arena, Drover__V1__TargetSpec, DROVER__V1__TARGET_SPEC__INIT);
}

static void fill_preflight(GPtrArray *arena, Drover__V1__VolumeOperation *message, const DroverJob *job,
                           const Drover__V1__JobSpec *spec)
{
    Drover__V1__PreflightTarget *asked =
        codec_new(arena, Drover__V1__PreflightTarget, DROVER__V1__PREFLIGHT_TARGET__INIT);
    message->preflight_target = asked;
    asked->name = job->name;
    asked->volumes_only = !job->failover_requested;
    asked->firmware = job->source.firmware;
    asked->secure_boot = job->source.secure_boot;
    asked->guest_id = job->source.guest_id;
    asked->target = spec != NULL && spec->target != NULL
                        ? spec->target
                        : codec_new(arena, Drover__V1__TargetSpec, DROVER__V1__TARGET_SPEC__INIT);
    asked->disks = codec_alloc(arena, sizeof(void *) * job->disks->len);
    for (guint i = 0; i < job->disks->len; i++) {
        const DroverDisk *disk = job->disks->pdata[i];
        const Drover__V1__DiskSpec *wanted = disk_spec(job, spec, disk->disk_id);
        Drover__V1__PreflightDisk *one = codec_new(arena, Drover__V1__PreflightDisk, DROVER__V1__PREFLIGHT_DISK__INIT);
        one->disk_id = disk->disk_id;
        one->size_bytes = disk->target_size_bytes;
        one->disk_key = disk->source_key;
        one->volume_id = disk->volume_id;
        if (wanted != NULL)
            one->disk_offering = wanted->disk_offering;
        asked->disks[asked->n_disks++] = one;
    }
}

#define FILL(member, Type, INIT, ...)                                                                        \
    do {                                                                                                     \
        message->member = codec_new(arena, Type, INIT);                                                      \
        Type *o = message->member;                                                                           \
        __VA_ARGS__;                                                                                         \
    } while (0)

Drover__V1__VolumeOperation *codec_operation(GPtrArray *arena, const DroverJob *job,
                                             const DroverOperation *op, const Drover__V1__JobSpec *spec)
{
    Drover__V1__VolumeOperation *message =
        codec_new(arena, Drover__V1__VolumeOperation, DROVER__V1__VOLUME_OPERATION__INIT);
    message->operation_id = op->operation_id;
    message->job_id = job->job_id;
    message->disk_id = op->disk_id;
    message->requested_at_ms = op->requested_at_ms;
    message->undo = op->undo;
    message->operation_case = (Drover__V1__VolumeOperation__OperationCase)op->kind;
    switch (op->kind) {
    case DROVER_OP_CREATE_VOLUME:
        fill_create(arena, message, job, op, spec);
        break;
    case DROVER_OP_ATTACH_VOLUME:
        FILL(attach_volume, Drover__V1__AttachVolume, DROVER__V1__ATTACH_VOLUME__INIT,
             o->volume_id = op->volume_id, o->minimum_size_bytes = op->size_bytes);
        break;
    case DROVER_OP_DETACH_VOLUME:
        FILL(detach_volume, Drover__V1__DetachVolume, DROVER__V1__DETACH_VOLUME__INIT,
             o->volume_id = op->volume_id);
        break;
    case DROVER_OP_DELETE_VOLUME:
        FILL(delete_volume, Drover__V1__DeleteVolume, DROVER__V1__DELETE_VOLUME__INIT,
             o->volume_id = op->volume_id);
        break;
    case DROVER_OP_OPEN_EXPORT:
        FILL(open_export, Drover__V1__OpenExport, DROVER__V1__OPEN_EXPORT__INIT, o->volume_id = op->volume_id,
             o->generation = op->generation, o->minimum_size_bytes = op->size_bytes);
        break;
    case DROVER_OP_CLOSE_EXPORT:
        FILL(close_export, Drover__V1__CloseExport, DROVER__V1__CLOSE_EXPORT__INIT,
             o->volume_id = op->volume_id, o->generation = op->generation);
        break;
    case DROVER_OP_DEPLOY_VM:
        fill_deploy(arena, message, job, op, spec);
        break;
    case DROVER_OP_SWAP_ROOT:
        FILL(swap_root, Drover__V1__SwapRoot, DROVER__V1__SWAP_ROOT__INIT, o->vm_id = op->vm_id,
             o->volume_id = op->volume_id);
        break;
    case DROVER_OP_ATTACH_TO_VM:
        FILL(attach_to_vm, Drover__V1__AttachToVm, DROVER__V1__ATTACH_TO_VM__INIT, o->vm_id = op->vm_id,
             o->volume_id = op->volume_id, o->device_id = op->device_id);
        break;
    case DROVER_OP_START_VM:
        FILL(start_vm, Drover__V1__StartVm, DROVER__V1__START_VM__INIT, o->vm_id = op->vm_id);
        break;
    case DROVER_OP_STOP_VM:
        FILL(stop_vm, Drover__V1__StopVm, DROVER__V1__STOP_VM__INIT, o->vm_id = op->vm_id,
             o->forced = op->forced);
        break;
    case DROVER_OP_DESTROY_VM:
        FILL(destroy_vm, Drover__V1__DestroyVm, DROVER__V1__DESTROY_VM__INIT, o->vm_id = op->vm_id);
        break;
    case DROVER_OP_PREFLIGHT_TARGET:
        fill_preflight(arena, message, job, spec);
        break;
    }
    return message;
}

DroverOperation *codec_read_operation(const Drover__V1__VolumeOperation *message)
{
    const char *volume_id = "", *vm_id = "", *custom_id = "";
    DroverOperation read = {.kind = (DroverOpKind)message->operation_case};
    switch (read.kind) {
    case DROVER_OP_CREATE_VOLUME:
        custom_id = message->create_volume->custom_id;
        read.size_bytes = message->create_volume->size_bytes;
        break;
    case DROVER_OP_ATTACH_VOLUME:
        volume_id = message->attach_volume->volume_id;
        read.size_bytes = message->attach_volume->minimum_size_bytes;
        break;
    case DROVER_OP_DETACH_VOLUME:
        volume_id = message->detach_volume->volume_id;
        break;
    case DROVER_OP_DELETE_VOLUME:
        volume_id = message->delete_volume->volume_id;
        break;
    case DROVER_OP_OPEN_EXPORT:
        volume_id = message->open_export->volume_id;
        read.generation = message->open_export->generation;
        read.size_bytes = message->open_export->minimum_size_bytes;
        break;
    case DROVER_OP_CLOSE_EXPORT:
        volume_id = message->close_export->volume_id;
        read.generation = message->close_export->generation;
        break;
    case DROVER_OP_DEPLOY_VM:
        custom_id = message->deploy_vm->custom_id;
        break;
    case DROVER_OP_SWAP_ROOT:
        volume_id = message->swap_root->volume_id;
        vm_id = message->swap_root->vm_id;
        break;
    case DROVER_OP_ATTACH_TO_VM:
        volume_id = message->attach_to_vm->volume_id;
        vm_id = message->attach_to_vm->vm_id;
        read.device_id = message->attach_to_vm->device_id;
        break;
    case DROVER_OP_START_VM:
        vm_id = message->start_vm->vm_id;
        break;
    case DROVER_OP_STOP_VM:
        vm_id = message->stop_vm->vm_id;
        read.forced = message->stop_vm->forced;
        break;
    case DROVER_OP_DESTROY_VM:
        vm_id = message->destroy_vm->vm_id;
        break;
    case DROVER_OP_PREFLIGHT_TARGET:
        break;
    default:
        return NULL;
    }
    read.operation_id = message->operation_id;
    read.disk_id = message->disk_id;
    read.volume_id = (char *)volume_id;
    read.vm_id = (char *)vm_id;
    read.custom_id = (char *)custom_id;
    read.undo = message->undo;
    read.requested_at_ms = message->requested_at_ms;
    return drover_operation_copy(&read);
}
