/* SPDX-License-Identifier: Apache-2.0 */
/* Commands on drover.jobs. */
#include "scheduler/codec_internal.h"

#include "drover/v1/job.pb-c.h"
#include "lib/base/ids.h"

/* What makes a source unique within its kind; NULL: none that this version knows. Held by ARENA where made.
 */
static const char *source_of(GPtrArray *arena, const Drover__V1__DiskSource *source, const char **kind)
{
    *kind = "";
    switch (source != NULL ? source->kind_case : DROVER__V1__DISK_SOURCE__KIND__NOT_SET) {
    case DROVER__V1__DISK_SOURCE__KIND_FILE:
        *kind = "file";
        return source->file->path;
    case DROVER__V1__DISK_SOURCE__KIND_NBD:
        *kind = "nbd";
        return source->nbd->uri;
    case DROVER__V1__DISK_SOURCE__KIND_VSPHERE: {
        *kind = "vsphere";
        char *text = g_strdup_printf("%s/%s/%d", source->vsphere->vcenter, source->vsphere->vm_moref,
                                     source->vsphere->disk_key);
        g_ptr_array_add(arena, text);
        return text;
    }
    default:
        return "";
    }
}

/* "" for a disk of no VM. */
static const char *vm_of(GPtrArray *arena, const Drover__V1__DiskSource *source)
{
    const Drover__V1__VsphereSource *vsphere = codec_vsphere_source(source);
    if (vsphere == NULL)
        return "";
    char *text = g_strdup_printf("%s/%s", vsphere->vcenter, vsphere->vm_moref);
    g_ptr_array_add(arena, text);
    return text;
}

static DroverDiskRequest *read_disks(GPtrArray *arena, CodecCommand *command, const Drover__V1__JobSpec *spec)
{
    DroverDiskRequest *disks = codec_alloc(arena, sizeof(DroverDiskRequest) * spec->n_disks);
    for (size_t i = 0; i < spec->n_disks; i++) {
        const Drover__V1__DiskSpec *disk = spec->disks[i];
        disks[i].disk_id = disk->disk_id;
        if (*disk->disk_id == '\0') {
            char *name = g_strdup_printf("disk%zu", i);
            g_ptr_array_add(arena, name);
            disks[i].disk_id = name;
        }
        disks[i].source = source_of(arena, disk->source, &disks[i].source_kind);
        disks[i].source_key = codec_source_key(disk->source);
        disks[i].vm = vm_of(arena, disk->source);
        disks[i].has_target_size =
            disk->target_size_case == DROVER__V1__DISK_SPEC__TARGET_SIZE_TARGET_SIZE_BYTES;
        disks[i].target_size_bytes = disks[i].has_target_size ? disk->target_size_bytes : 0;
        disks[i].spec = codec_pack(&disk->base);
    }
    command->request.disks = disks;
    command->request.n_disks = spec->n_disks;
    return disks;
}

static void read_submit(CodecCommand *command, const Drover__V1__JobCommand *message,
                        const char *default_site)
{
    Drover__V1__JobSpec *spec = message->submit;
    char *named_site = spec->source_site;
    if (*named_site == '\0' && default_site != NULL)
        spec->source_site = (char *)default_site;
    command->kind = CODEC_COMMAND_SUBMIT;
    command->request = (DroverRequest){
        .job_id = command->job_id,
        .name = spec->name,
        .site = spec->source_site,
        .agent = spec->target != NULL ? spec->target->agent : "",
        .submitter = message->submitter,
        .digest = (int)spec->digest,
        .failover = spec->failover,
        .bandwidth_limit = spec->bandwidth_limit_bytes_per_second,
        .range_bytes = spec->range_bytes,
        .round_interval_ms = spec->round_interval_ms,
        .deep_verify_before_cutover = spec->deep_verify_before_cutover,
        .priority = spec->priority,
        .spec = codec_pack(&spec->base),
    };
    command->request.source = &command->source;
    codec_read_source_vm(spec, &command->source);
    spec->source_site = named_site;
    read_disks(command->held, command, spec);
}

static bool read_other(CodecCommand *command, const Drover__V1__JobCommand *message)
{
    command->kind = CODEC_COMMAND_INPUT;
    DroverInput *input = &command->input;
    switch (message->command_case) {
    case DROVER__V1__JOB_COMMAND__COMMAND_CANCEL:
        input->kind = DROVER_INPUT_CANCEL;
        input->text = message->cancel->reason;
        return true;
    case DROVER__V1__JOB_COMMAND__COMMAND_FAILOVER:
        input->kind = DROVER_INPUT_FAILOVER;
        input->failover = (DroverFailoverKind)message->failover->kind;
        return true;
    case DROVER__V1__JOB_COMMAND__COMMAND_CLEANUP:
        input->kind = DROVER_INPUT_CLEANUP;
        input->keep_volumes = message->cleanup->keep_volumes;
        return true;
    case DROVER__V1__JOB_COMMAND__COMMAND_PAUSE:
        input->kind = DROVER_INPUT_PAUSE;
        return true;
    case DROVER__V1__JOB_COMMAND__COMMAND_RESUME:
        input->kind = DROVER_INPUT_RESUME;
        return true;
    case DROVER__V1__JOB_COMMAND__COMMAND_SYNC:
        input->kind = DROVER_INPUT_SYNC;
        input->sync_type =
            message->sync->sync_type == DROVER__V1__SYNC_TYPE__SYNC_TYPE_DEEP_VERIFY ? DROVER_SYNC_DEEP_VERIFY : 0;
        input->only_interval = message->sync->only_interval;
        input->has_interval = message->sync->interval_case == DROVER__V1__SYNC_JOB__INTERVAL_ROUND_INTERVAL_MS;
        input->interval_ms = input->has_interval ? message->sync->round_interval_ms : 0;
        return true;
    default:
        return false;
    }
}

CodecCommand *codec_command(const uint8_t *value, size_t len, const char *default_site, GError **error)
{
    Drover__V1__JobCommand *message =
        codec_unpack(&drover__v1__job_command__descriptor, value, len, "The command", error);
    if (message == NULL)
        return NULL;
    g_autoptr(CodecCommand) command = g_new0(CodecCommand, 1);
    command->message = message;
    command->held = codec_arena();
    command->job_id = message->job_id;
    if (!drover_id_is_valid(message->job_id)) {
        drover_fail(error, DROVER_ERROR_PERMANENT,
                    "The command's job_id is not of the form [A-Za-z0-9._-]{1,64}");
        return NULL;
    }
    if (message->command_case == DROVER__V1__JOB_COMMAND__COMMAND_SUBMIT) {
        read_submit(command, message, default_site);
    } else if (!read_other(command, message)) {
        drover_fail(error, DROVER_ERROR_PERMANENT,
                    "The command for job %s is of no kind that this version knows", message->job_id);
        return NULL;
    }
    return g_steal_pointer(&command);
}

void codec_command_free(CodecCommand *command)
{
    if (command == NULL)
        return;
    for (size_t i = 0; i < command->request.n_disks; i++)
        g_bytes_unref(command->request.disks[i].spec);
    g_clear_pointer(&command->request.spec, g_bytes_unref);
    drover_source_vm_clear(&command->source);
    g_ptr_array_unref(command->held);
    codec_free(command->message);
    g_free(command);
}

#define OVERRIDE(field)                                                                                      \
    do {                                                                                                     \
        if (*wanted->field != '\0')                                                                          \
            target->field = wanted->field;                                                                   \
    } while (0)

/* Shallow: strings and arrays stay WANTED's. The home appliance stays: it holds the disks. */
static void override(Drover__V1__TargetSpec *target, const Drover__V1__TargetSpec *wanted)
{
    OVERRIDE(zone);
    OVERRIDE(service_offering);
    OVERRIDE(template_id);
    OVERRIDE(os_type);
    OVERRIDE(account);
    OVERRIDE(domain_id);
    OVERRIDE(project_id);
    OVERRIDE(boot_type);
    OVERRIDE(boot_mode);
    if (wanted->n_network_ids > 0) {
        target->n_network_ids = wanted->n_network_ids;
        target->network_ids = wanted->network_ids;
    }
    if (wanted->n_details > 0) {
        target->n_details = wanted->n_details;
        target->details = wanted->details;
    }
}

GBytes *codec_override_target(const DroverJob *job, const CodecCommand *command)
{
    const Drover__V1__JobCommand *message = command->message;
    if (job->spec == NULL || message->command_case != DROVER__V1__JOB_COMMAND__COMMAND_FAILOVER ||
        message->failover->target == NULL)
        return NULL;
    Drover__V1__JobSpec *spec = codec_unpack_bytes(&drover__v1__job_spec__descriptor, job->spec);
    if (spec == NULL)
        return NULL;
    Drover__V1__TargetSpec *own = spec->target;
    Drover__V1__TargetSpec merged = DROVER__V1__TARGET_SPEC__INIT;
    if (own != NULL)
        merged = *own;
    override(&merged, message->failover->target);
    spec->target = &merged;
    GBytes *packed = codec_pack(&spec->base);
    spec->target = own;
    codec_free(spec);
    if (g_bytes_get_size(packed) > DROVER_SPEC_MAX_BYTES)
        g_clear_pointer(&packed, g_bytes_unref);
    return packed;
}

bool codec_read_spec(DroverJob *job, GError **error)
{
    Drover__V1__JobSpec *spec = codec_unpack_bytes(&drover__v1__job_spec__descriptor, job->spec);
    if (spec == NULL)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "The spec of job %s cannot be decoded",
                           job->job_id);
    drover_set_string(&job->name, spec->name);
    drover_set_string(&job->site, spec->source_site);
    drover_set_string(&job->wanted_agent, spec->target != NULL ? spec->target->agent : "");
    job->digest = spec->digest == 0 ? DROVER_DIGEST_XXH3 : (DroverDigestAlgorithm)spec->digest;
    job->bandwidth_limit = spec->bandwidth_limit_bytes_per_second;
    job->range_bytes = spec->range_bytes;
    job->priority = spec->priority;
    job->deep_verify_before_cutover = spec->deep_verify_before_cutover;
    codec_read_source_vm(spec, &job->source);
    codec_free(spec);
    return true;
}
