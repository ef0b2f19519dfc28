/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/apply.h"

#include "core/task/task.h"
#include "core/task/verify.h"
#include "lib/base/log.h"
#include "scheduler/apply_event.h"
#include "scheduler/codec.h"

#define EVENTS "drover.events."
#define CHECKPOINTS "drover.checkpoints."
#define JOURNAL "drover.journal."

bool apply_is_input(const char *topic)
{
    return g_str_equal(topic, "drover.jobs") || g_str_has_prefix(topic, EVENTS);
}

static void poison(World *world, const DroverRecord *record, const char *reason)
{
    /* What is read from its beginning by every new leader was put away by an earlier one. */
    if (world->replaying && !apply_is_input(record->topic)) {
        drover_warning("record.poison", reason, F_S("topic", record->topic), F_I("offset", record->offset));
        return;
    }
    outbox_add_letter(world->outbox, record, reason);
}

static void submit(World *world, const CodecCommand *command)
{
    DroverJob *known = g_hash_table_lookup(world->jobs, command->job_id);
    if (known != NULL) {
        world_audit(world, known, NULL, "info", "job.submitted-again",
                    "Submitted again: the first submission stands");
        return;
    }
    DroverPlaces places = world_places(world);
    DroverAt at = world_at(world, NULL);
    g_autoptr(GPtrArray) outputs = drover_outputs_new();
    DroverJob *job = drover_job_submit(&command->request, &places, &world->options->limits, &at, outputs);
    g_hash_table_replace(world->jobs, job->job_id, job);
    world_outputs(world, job, outputs);
}

static void apply_command(World *world, const DroverRecord *record)
{
    g_autoptr(GError) error = NULL;
    const char *const *sites = world->options->sites;
    const char *only_site = sites[0] != NULL && sites[1] == NULL ? sites[0] : NULL;
    g_autoptr(CodecCommand) command = codec_command(record->value, record->len, only_site, &error);
    if (command == NULL) {
        poison(world, record, error->message);
        return;
    }
    if (command->kind == CODEC_COMMAND_SUBMIT) {
        submit(world, command);
        return;
    }
    DroverJob *job = g_hash_table_lookup(world->jobs, command->job_id);
    if (job == NULL) {
        g_autofree char *reason = g_strdup_printf("There is no job %s", command->job_id);
        poison(world, record, reason);
        return;
    }
    g_autoptr(GBytes) spec = codec_override_target(job, command);
    command->input.spec = spec;
    world_step(world, job, &command->input);
}

static void source_changed(World *world, DroverJob *job, const DroverDisk *disk, uint64_t cell)
{
    DroverFault fault = {0};
    drover_fault_set(
        &fault, DROVER_ERROR_PERMANENT, "DRV-SOURCE-CHANGED",
        "DRV-SOURCE-CHANGED: the source of disk %s gave different bytes for offset %" G_GUINT64_FORMAT
        " when it was read again; copy from something that nobody writes to",
        disk->disk_id, cell * DROVER_CELL_BYTES);
    DroverInput input = {.kind = DROVER_INPUT_FAULT, .fault = &fault};
    world_step(world, job, &input);
    drover_fault_clear(&fault);
}

static void fold(World *world, DroverJob *job, DroverDisk *disk, const DroverCheckpoint *checkpoint,
                 const char *topic)
{
    g_autoptr(GArray) fresh = g_array_new(false, false, sizeof(uint64_t));
    uint64_t cell = 0;
    switch (drover_cells_checkpoint(disk, checkpoint, fresh, &cell)) {
    case DROVER_CHECKPOINT_OBSOLETE:
        outbox_add(world->outbox, topic, checkpoint->partition, checkpoint->key, NULL);
        return;
    case DROVER_CHECKPOINT_CHANGED:
        source_changed(world, job, disk, cell);
        return;
    case DROVER_CHECKPOINT_FOLDED:
        break;
    }
    for (guint i = 0; i < fresh->len; i++) {
        uint64_t index = g_array_index(fresh, uint64_t, i);
        if (job->digest == DROVER_DIGEST_NONE)
            disk->cells->cell[index].verified = true; /* nothing to compare with */
        else
            drover_verify_add(disk->verify, index, world->lease_ms);
    }
    if (job->digest == DROVER_DIGEST_NONE && fresh->len > 0)
        apply_settle_tasks(world, job, disk);
}

static void apply_checkpoint(World *world, const DroverRecord *record)
{
    if (record->value == NULL || record->key == NULL)
        return; /* a tombstone */
    g_autoptr(GError) error = NULL;
    g_autoptr(CodecCheckpoint) read = codec_checkpoint(record->value, record->len, &error);
    if (read == NULL) {
        poison(world, record, error->message);
        outbox_add(world->outbox, record->topic, record->partition, record->key, NULL);
        return;
    }
    read->checkpoint.key = record->key;
    read->checkpoint.partition = record->partition;
    DroverJob *job = g_hash_table_lookup(world->jobs, read->job_id);
    DroverDisk *disk = job != NULL ? drover_job_disk(job, read->disk_id) : NULL;
    if (disk == NULL)
        outbox_add(world->outbox, record->topic, record->partition, record->key, NULL);
    else
        fold(world, job, disk, &read->checkpoint, record->topic);
}

static void remember_export(World *world, const DroverOperationResult *result)
{
    if (result->volume_id == NULL || *result->volume_id == '\0' || result->token == NULL ||
        *result->token == '\0')
        return;
    const WorldExport *known = g_hash_table_lookup(world->exports, result->volume_id);
    if (known != NULL && known->generation > result->generation)
        return;
    WorldExport *export = g_new0(WorldExport, 1);
    export->generation = result->generation;
    export->token = g_strdup(result->token);
    g_hash_table_replace(world->exports, g_strdup(result->volume_id), export);
}

static void apply_journal(World *world, const DroverRecord *record)
{
    if (record->value == NULL)
        return;
    g_autoptr(GError) error = NULL;
    g_autoptr(CodecJournal) journal = codec_journal(record->value, record->len, &error);
    if (journal == NULL) {
        poison(world, record, error->message);
        return;
    }
    if (journal->kind != CODEC_JOURNAL_PENDING)
        remember_export(world, &journal->result);
    DroverJob *job = journal->job_id != NULL ? g_hash_table_lookup(world->jobs, journal->job_id) : NULL;
    if (job == NULL || g_strcmp0(record->topic + strlen(JOURNAL), job->agent) != 0)
        return;
    if (journal->kind == CODEC_JOURNAL_DONE || journal->kind == CODEC_JOURNAL_FAILED) {
        DroverInput input = {
            .kind = journal->kind == CODEC_JOURNAL_DONE ? DROVER_INPUT_OPERATION_DONE
                                                        : DROVER_INPUT_OPERATION_FAILED,
            .operation_id = journal->operation_id,
            .result = &journal->result,
            .fault = &journal->fault,
        };
        world_step(world, job, &input);
    }
    for (guint i = 0; i < job->disks->len; i++)
        world_find_token(world, job->disks->pdata[i]);
}

static void see_running(World *world, const DroverProcess *process, const DroverAt *at)
{
    for (guint i = 0; i < process->running->len; i++) {
        const DroverRunning *running = &g_array_index(process->running, DroverRunning, i);
        /* task ids begin with the job's */
        g_autofree char *job_id = g_strndup(running->task_id, strcspn(running->task_id, "/"));
        const DroverJob *job = g_hash_table_lookup(world->jobs, job_id);
        DroverTask *task = job != NULL ? drover_job_task(job, running->task_id, NULL) : NULL;
        if (task != NULL)
            drover_task_seen(task, running->attempt, process->instance_id, at);
    }
}

static void apply_heartbeat(World *world, const DroverRecord *record)
{
    if (record->value == NULL)
        return;
    g_autoptr(GError) error = NULL;
    int64_t sent_ms = 0;
    DroverProcess *heartbeat = codec_heartbeat(record->value, record->len, &sent_ms, &error);
    if (heartbeat == NULL) {
        poison(world, record, error->message);
        return;
    }
    DroverAt at = world_at(world, NULL);
    const DroverProcess *process =
        drover_fleet_heartbeat(world->fleet, heartbeat, world->replaying ? world->now_ms - sent_ms : 0, &at);
    if (process != NULL)
        see_running(world, process, &at);
}

static void hold_grant(const char *holder, uint64_t rate, void *data)
{
    DroverGrants *grants = ((void **)data)[0];
    const World *world = ((void **)data)[1];
    drover_grants_hold(grants, holder, rate, world->lease_ms + world->options->grant_ttl_ms);
}

/* Our own topic: only a new leader learns something from it. */
static void apply_control(World *world, const DroverRecord *record)
{
    if (!world->replaying || record->value == NULL)
        return;
    g_autoptr(GError) error = NULL;
    g_autofree char *job_id = NULL;
    uint64_t version = 0;
    DroverGrants *grants = drover_grants_new();
    void *data[] = {grants, world};
    if (!codec_read_control(record->value, record->len, &job_id, &version, hold_grant, data, &error) ||
        job_id == NULL) {
        drover_grants_free(grants);
        return;
    }
    g_hash_table_replace(world->grants, g_strdup(job_id), grants);
    g_hash_table_replace(world->controls, g_strdup(job_id), g_memdup2(&version, sizeof version));
}

static void advance_offset(World *world, const DroverRecord *record)
{
    int64_t next = record->offset + 1;
    g_hash_table_replace(world->offsets, g_strdup_printf("%s/%d", record->topic, record->partition),
                         g_memdup2(&next, sizeof next));
    world->offsets_dirty = true;
}

void apply_record(World *world, const DroverRecord *record)
{
    const char *topic = record->topic;
    if (apply_is_input(topic))
        advance_offset(world, record);
    if (g_str_equal(topic, "drover.jobs"))
        apply_command(world, record);
    else if (g_str_has_prefix(topic, EVENTS))
        apply_event(world, record);
    else if (g_str_has_prefix(topic, CHECKPOINTS))
        apply_checkpoint(world, record);
    else if (g_str_has_prefix(topic, JOURNAL))
        apply_journal(world, record);
    else if (g_str_equal(topic, "drover.fleet"))
        apply_heartbeat(world, record);
    else if (g_str_equal(topic, "drover.control"))
        apply_control(world, record);
}
