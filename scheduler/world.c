/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/world.h"

#include "lib/base/ids.h"
#include "lib/base/log.h"
#include "scheduler/codec.h"

static void export_free(void *data)
{
    WorldExport *export = data;
    g_free(export->token);
    g_free(export);
}

World *world_new(const SchedulerOptions *options)
{
    World *world = g_new0(World, 1);
    world->options = options;
    world->jobs = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)drover_job_free);
    world->touched = g_hash_table_new(NULL, NULL);
    world->fleet = drover_fleet_new();
    world->offsets = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    world->exports = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, export_free);
    world->grants =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)drover_grants_free);
    world->controls = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    world->outbox = outbox_new();
    world->handed_out = g_ptr_array_new();
    world->random = g_rand_new();
    world->now_ms = drover_now_ms();
    world->replaying = true;
    /* Rises from leader to leader, so that an answer to an earlier one is never mistaken for ours. */
    world->verify_sequence = (uint64_t)world->now_ms * 1000;
    return world;
}

void world_free(World *world)
{
    if (world == NULL)
        return;
    g_hash_table_unref(world->touched);
    g_hash_table_unref(world->jobs);
    drover_fleet_free(world->fleet);
    g_hash_table_unref(world->offsets);
    g_hash_table_unref(world->exports);
    g_hash_table_unref(world->grants);
    g_hash_table_unref(world->controls);
    outbox_free(world->outbox);
    g_ptr_array_unref(world->handed_out);
    g_rand_free(world->random);
    g_free(world);
}

DroverAt world_at(World *world, const DroverJob *job)
{
    DroverAt at = {.now_ms = world->now_ms, .lease_ms = world->lease_ms, .random = g_rand_int(world->random)};
    if (job != NULL)
        at.copy_slots = drover_fleet_copy_slots(world->fleet, job->site, &at);
    return at;
}

DroverPlaces world_places(const World *world)
{
    return (DroverPlaces){world->options->sites, world->options->agents};
}

void world_touch(World *world, DroverJob *job)
{
    g_hash_table_add(world->touched, job);
}

static void send_operation(World *world, const DroverJob *job, const DroverOperation *operation)
{
    g_autofree char *topic = g_strdup_printf("drover.tasks.%s", job->agent);
    outbox_add(world->outbox, topic, 0, job->job_id, codec_operation_task(job, operation, world->now_ms));
    drover_info("operation.sent", drover_op_name(operation->kind), F_S("job_id", job->job_id),
                F_S("disk_id", operation->disk_id), F_S("operation_id", operation->operation_id),
                F_S("agent", job->agent));
}

static void send_audit(World *world, const DroverJob *job, const DroverOutput *output)
{
    outbox_add(world->outbox, "drover.audit", DROVER_PARTITION_BY_KEY, job->job_id,
               codec_audit(job, output, world->options->process_id, world->now_ms));
    DroverLogLevel level = g_str_equal(output->level, "error")     ? DROVER_LOG_ERROR
                           : g_str_equal(output->level, "warning") ? DROVER_LOG_WARNING
                                                                   : DROVER_LOG_INFO;
    DROVER_LOG(level, output->event, output->message, F_S("job_id", job->job_id),
               F_S("disk_id", output->disk_id));
}

void world_outputs(World *world, DroverJob *job, GPtrArray *outputs)
{
    for (guint i = 0; i < outputs->len; i++) {
        const DroverOutput *output = outputs->pdata[i];
        if (output->kind == DROVER_OUTPUT_OPERATION)
            send_operation(world, job, output->operation);
        else
            send_audit(world, job, output);
    }
    g_ptr_array_set_size(outputs, 0);
    world_touch(world, job);
}

void world_step(World *world, DroverJob *job, const DroverInput *input)
{
    g_autoptr(GPtrArray) outputs = drover_outputs_new();
    DroverAt at = world_at(world, job);
    drover_job_step(job, input, &world->options->limits, &at, outputs);
    world_outputs(world, job, outputs);
}

void world_audit(World *world, DroverJob *job, const char *disk_id, const char *level, const char *event,
                 const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *message = g_strdup_vprintf(format, args);
    va_end(args);
    g_autoptr(GPtrArray) outputs = drover_outputs_new();
    drover_outputs_audit(outputs, level, event, disk_id, "%s", message);
    world_outputs(world, job, outputs);
}

GPtrArray *world_active(const World *world)
{
    GPtrArray *active = g_ptr_array_new();
    GHashTableIter iter;
    void *value;
    g_hash_table_iter_init(&iter, world->jobs);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        if (!drover_phase_is_ended(((DroverJob *)value)->phase))
            g_ptr_array_add(active, value);
    return active;
}

void world_find_token(const World *world, DroverDisk *disk)
{
    const WorldExport *export = g_hash_table_lookup(world->exports, disk->volume_id);
    if (export == NULL || !disk->export_open || export->generation != disk->generation ||
        (disk->token != NULL && disk->token_generation == disk->generation))
        return;
    g_free(disk->token);
    disk->token = g_strdup(export->token);
    disk->token_generation = export->generation;
}

void world_drop_checkpoints(World *world, const DroverJob *job, DroverTask *task)
{
    g_autofree char *topic = g_strdup_printf("drover.checkpoints.%s", job->site);
    for (guint i = 0; i < task->checkpoint_keys->len; i++) {
        const DroverCheckpointKey *key = &g_array_index(task->checkpoint_keys, DroverCheckpointKey, i);
        outbox_add(world->outbox, topic, key->partition, key->key, NULL);
    }
    g_array_set_size(task->checkpoint_keys, 0);
}

static void collect_disk(World *world, DroverJob *job, DroverDisk *disk)
{
    for (guint i = 0; i < disk->tasks->len; i++) {
        DroverTask *task = disk->tasks->pdata[i];
        if (!task->dirty)
            continue;
        task->dirty = false;
        task->version++;
        g_autofree char *key = codec_task_key(job, disk, task);
        outbox_add(world->outbox, "drover.state", 0, key, codec_task_state(job, disk, task));
        if (drover_task_is_ended(task))
            world_drop_checkpoints(world, job, task);
    }
    for (guint i = 0; i < disk->retired->len; i++) {
        g_autofree char *key = g_strdup_printf("job/%s/disk/%s/task/%s", job->job_id, disk->disk_id,
                                               (const char *)disk->retired->pdata[i]);
        outbox_add(world->outbox, "drover.state", 0, key, NULL);
    }
    g_ptr_array_set_size(disk->retired, 0);
    if (!disk->dirty)
        return;
    disk->dirty = false;
    disk->version++;
    g_autofree char *key = codec_disk_key(job, disk);
    outbox_add(world->outbox, "drover.state", 0, key, codec_disk_state(job, disk));
}

static void collect_job(World *world, DroverJob *job)
{
    for (guint i = 0; i < job->disks->len; i++)
        collect_disk(world, job, job->disks->pdata[i]);
    if (!job->dirty)
        return;
    job->dirty = false;
    job->version++;
    job->updated_at_ms = world->now_ms;
    g_autofree char *key = codec_job_key(job);
    outbox_add(world->outbox, "drover.state", 0, key, codec_job_state(job));
}

bool world_collect(World *world)
{
    GHashTableIter iter;
    void *job;
    g_hash_table_iter_init(&iter, world->touched);
    while (g_hash_table_iter_next(&iter, &job, NULL))
        collect_job(world, job);
    g_hash_table_remove_all(world->touched);
    if (outbox_is_empty(world->outbox) && !world->offsets_dirty)
        return false;
    if (world->offsets_dirty) {
        outbox_add(world->outbox, "drover.state", 0, "offsets",
                   codec_offsets(world->offsets, world->options->instance_id, world->now_ms));
        world->offsets_dirty = false;
    }
    return true;
}
