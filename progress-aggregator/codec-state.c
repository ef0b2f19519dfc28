/* SPDX-License-Identifier: Apache-2.0 */
#include "progress-aggregator/codec-internal.h"

#include <string.h>

#include "drover/v1/state.pb-c.h"
#include "lib/base/error.h"
#include "lib/base/log.h"
#include "progress-aggregator/vocabulary.h"

/* Whether round 0 has begun at some time, so that a job that ended early is shown where it stood. */
static bool copy_started(const Drover__V1__JobState *job)
{
    for (size_t i = 0; i < job->n_phase_started_at_ms; i++) {
        g_autofree char *name = g_ascii_strdown(job->phase_started_at_ms[i]->key, -1);
        if (g_str_has_suffix(name, "copying"))
            return true;
    }
    return false;
}

static char *error_text(const Drover__V1__Error *error)
{
    if (!error)
        return g_strdup("");
    g_autofree char *text = drover_redact(error->message);
    if (!*error->code || g_str_has_prefix(text, error->code))
        return g_steal_pointer(&text);
    return g_strdup_printf("%s: %s", error->code, text);
}

static const char *failover_kind(Drover__V1__FailoverKind kind)
{
    return kind == DROVER__V1__FAILOVER_KIND__FAILOVER_KIND_TEST ? "test" : "live";
}

static char *join(char **words, size_t count)
{
    GString *out = g_string_new(NULL);
    for (size_t i = 0; i < count; i++)
        g_string_append_printf(out, "%s%s", i ? "," : "", words[i]);
    return g_string_free(out, FALSE);
}

static char *disk_ids(const Drover__V1__JobState *job)
{
    if (job->n_disk_ids || !job->spec)
        return join(job->disk_ids, job->n_disk_ids);
    GString *out = g_string_new(NULL);
    for (size_t i = 0; i < job->spec->n_disks; i++) {
        const char *id = job->spec->disks[i]->disk_id;
        g_string_append(out, i ? "," : "");
        if (*id)
            g_string_append(out, id);
        else
            g_string_append_printf(out, "disk%zu", i);
    }
    return g_string_free(out, FALSE);
}

static void failover_pairs(const Drover__V1__JobState *job, GPtrArray *args)
{
    const Drover__V1__FailoverState *f = job->failover;
    DroverPairs pairs = drover_pairs_begin(args);
    if (f && (*f->status || *f->vm_id)) {
        PAIR_STRING(args, "job_id", job->job_id);
        PAIR_STRING(args, "type", failover_kind(f->kind));
        PAIR_STRING(args, "status", f->status);
        PAIR_STRING(args, "destination_vm_id", f->vm_id);
        PAIR_STRING(args, "destination_vm_name", f->vm_name);
        PAIR_STRING(args, "destination_vm_state", f->vm_state);
        g_autofree char *networks =
            job->spec && job->spec->target ? join(job->spec->target->network_ids, job->spec->target->n_network_ids) : NULL;
        PAIR_STRING(args, "network_ids", networks);
        PAIR_TIME(args, "started_at", f->started_at_ms);
        PAIR_TIME(args, "completed_at", f->completed_at_ms);
    }
    drover_pairs_end(&pairs);
}

/* "<round>:<sync type>:<bytes moved>:<duration in ms>", oldest first: shows whether replication converges. */
static char *rounds_text(const Drover__V1__JobState *job)
{
    GString *text = g_string_new(NULL);
    for (size_t i = 0; i < job->n_rounds; i++) {
        const Drover__V1__RoundSummary *round = job->rounds[i];
        g_string_append_printf(text, "%s%u:%s:%" G_GUINT64_FORMAT ":%" G_GINT64_FORMAT, i > 0 ? "," : "", round->round,
                               drover_word_sync_type(round->sync_type), round->moved_bytes,
                               round->finished_at_ms - round->started_at_ms);
    }
    return g_string_free(text, false);
}

static bool job_args(const Drover__V1__JobState *job, GPtrArray *args, GError **error)
{
    if (!drover_codec_check_ids(job->job_id, NULL, NULL, error))
        return false;
    if (job->phase == DROVER__V1__JOB_PHASE__JOB_PHASE_UNSPECIFIED)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "state of job '%s' has no phase", job->job_id);
    /* A phase that a newer scheduler knows still means that the job runs. */
    const char *status = drover_word_status(job->phase, job->paused);
    const char *operation = drover_word_operation(job->phase);
    const Drover__V1__JobSpec *spec = job->spec;
    bool copying = copy_started(job);
    bool discovering = strcmp(drover_word_phase(job->phase, copying), "Discover") == 0;
    g_autofree char *message = error_text(job->error);
    g_autofree char *disks = disk_ids(job);
    drover_args_string(args, job->job_id);
    drover_args_unsigned(args, job->version);
    drover_args_string(args, status ? status : "running");
    drover_args_string(args, drover_phase_is_end(job->phase) ? "1" : "0");
    drover_args_signed(args, job->updated_at_ms);
    drover_args_time(args, job->updated_at_ms);
    DroverPairs pairs = drover_pairs_begin(args);
    PAIR_STRING(args, "name", spec ? spec->name : "");
    PAIR_STRING(args, "disks", disks);
    PAIR_STRING(args, "source_site", spec ? spec->source_site : "");
    PAIR_STRING(args, "agent", job->agent);
    PAIR_STRING(args, "replication_type", drover_word_replication_type(job->sync_type));
    PAIR_STRING(args, "current_operation", operation ? operation : "running");
    PAIR_STRING(args, "vma_sync_type", drover_word_sync_type(job->sync_type));
    PAIR_STRING(args, "vma_current_phase", drover_word_phase(job->phase, copying));
    PAIR_UNSIGNED(args, "setup_progress_percent", discovering ? job->setup_progress_percent : 100);
    PAIR_UNSIGNED(args, "round", job->round);
    g_autofree char *rounds = rounds_text(job);
    PAIR_STRING(args, "rounds", rounds);
    PAIR_UNSIGNED(args, "round_interval_ms", job->round_interval_ms);
    PAIR_TIME(args, "replicated_until", job->replicated_until_ms);
    PAIR_STRING(args, "error_message", message);
    PAIR_STRING(args, "error_code", job->error ? job->error->code : "");
    PAIR_STRING(args, "stall_reason", job->stall_reason);
    PAIR_STRING(args, "failover_requested", job->failover_requested || (spec && spec->failover) ? "1" : "0");
    PAIR_UNSIGNED(args, "ledger_entries", job->n_ledger);
    PAIR_TIME(args, "created_at", job->created_at_ms);
    PAIR_TIME(args, "started_at", job->started_at_ms);
    PAIR_TIME(args, "completed_at", job->completed_at_ms);
    drover_pairs_end(&pairs);
    failover_pairs(job, args);
    return true;
}

static bool disk_is(const Drover__V1__DiskState *disk, const char *sync_status)
{
    return strcmp(disk->sync_status, sync_status) == 0;
}

static void source_pairs(const Drover__V1__DiskState *disk, GPtrArray *args)
{
    const Drover__V1__DiskSource *source = disk->spec ? disk->spec->source : NULL;
    const char *kind = "", *where = "";
    g_autofree char *vsphere = NULL;
    if (source && source->kind_case == DROVER__V1__DISK_SOURCE__KIND_FILE) {
        kind = "file";
        where = source->file->path;
    } else if (source && source->kind_case == DROVER__V1__DISK_SOURCE__KIND_NBD) {
        kind = "nbd";
        where = source->nbd->uri;
    } else if (source && source->kind_case == DROVER__V1__DISK_SOURCE__KIND_VSPHERE) {
        kind = "vsphere";
        where = vsphere = g_strdup_printf("%s/%s:%d", source->vsphere->vcenter, source->vsphere->vm_uuid,
                                          source->vsphere->disk_key);
    }
    PAIR_STRING(args, "source_kind", kind);
    PAIR_STRING(args, "source", where);
}

/* Name of the VM in the key of the disk's history. */
static const char *history_vm(const Drover__V1__DiskState *disk)
{
    const Drover__V1__DiskSource *source = disk->spec ? disk->spec->source : NULL;
    if (source && source->kind_case == DROVER__V1__DISK_SOURCE__KIND_VSPHERE && *source->vsphere->vm_uuid)
        return source->vsphere->vm_uuid;
    return disk->job_id;
}

static void history_args(const Drover__V1__DiskState *disk, bool finished, GPtrArray *args)
{
    bool failed = disk_is(disk, "failed");
    g_autofree char *name = finished || failed ? g_strdup_printf("%s:%s", history_vm(disk), disk->disk_id) : NULL;
    drover_args_string(args, name);
    DroverPairs pairs = drover_pairs_begin(args);
    if (name) {
        const Drover__V1__ByteCounts *c = disk->final_counts;
        PAIR_STRING(args, "job_id", disk->job_id);
        PAIR_UNSIGNED(args, "round", disk->round);
        PAIR_STRING(args, "change_id", disk->change_id);
        PAIR_STRING(args, "previous_change_id", disk->previous_change_id);
        PAIR_STRING(args, "sync_type", drover_word_sync_type(disk->sync_type));
        PAIR_UNSIGNED(args, "bytes", c ? c->data_bytes : 0);
        PAIR_STRING(args, "receipt", disk->receipt);
        PAIR_STRING(args, "success", finished ? "1" : "0");
    }
    drover_pairs_end(&pairs);
}

static bool disk_args(const Drover__V1__DiskState *disk, GPtrArray *args, GError **error)
{
    const Drover__V1__ByteCounts *final = disk->final_counts;
    bool finished = disk_is(disk, "completed") && final;
    if (!drover_codec_check_ids(disk->job_id, disk->disk_id, NULL, error) ||
        !drover_codec_check_bytes(disk->allocated_bytes, "allocated_bytes", error) ||
        !drover_codec_check_bytes(disk->capacity_bytes, "capacity_bytes", error) ||
        (final && !drover_codec_check_bytes(final->data_bytes, "final_counts.data_bytes", error)))
        return false;
    drover_args_string(args, disk->job_id);
    drover_args_string(args, disk->disk_id);
    drover_args_unsigned(args, disk->version);
    drover_args_unsigned(args, disk->round);
    drover_args_unsigned(args, disk->allocated_bytes);
    drover_args_unsigned(args, disk->capacity_bytes);
    drover_args_signed(args, finished ? (int64_t)final->data_bytes : -1);
    drover_args_string(args, finished || disk_is(disk, "failed") ? "1" : "0");
    history_args(disk, finished, args);
    DroverPairs pairs = drover_pairs_begin(args);
    PAIR_STRING(args, "name", disk->spec ? disk->spec->name : "");
    source_pairs(disk, args);
    PAIR_STRING(args, "format", disk->format);
    PAIR_STRING(args, "sync_status", disk->sync_status);
    PAIR_UNSIGNED(args, "round", disk->round);
    PAIR_UNSIGNED(args, "capacity_bytes", disk->capacity_bytes);
    PAIR_UNSIGNED(args, "target_size_bytes", disk->target_size_bytes);
    PAIR_STRING(args, "extents_available", disk->extents_available ? "1" : "0");
    PAIR_STRING(args, "volume_id", disk->volume_id);
    PAIR_STRING(args, "device_path", disk->device_path);
    PAIR_STRING(args, "export_name", disk->export_name);
    PAIR_STRING(args, "export_open", disk->export_open ? "1" : "0");
    PAIR_UNSIGNED(args, "generation", disk->generation);
    PAIR_STRING(args, "disk_change_id", disk->change_id);
    PAIR_STRING(args, "previous_change_id", disk->previous_change_id);
    PAIR_STRING(args, "receipt", disk->receipt);
    PAIR_UNSIGNED(args, "verified_bytes", disk->verified_bytes);
    PAIR_UNSIGNED(args, "repaired_cells", disk->repaired_cells);
    PAIR_STRING(args, "diverged", disk->diverged ? "1" : "0");
    PAIR_UNSIGNED(args, "zero_found_bytes", final ? final->zero_found_bytes : 0);
    PAIR_UNSIGNED(args, "resent_bytes", final ? final->resent_bytes : 0);
    drover_pairs_end(&pairs);
    return true;
}

static bool task_args(const Drover__V1__TaskState *task, GPtrArray *args, GError **error)
{
    static const char *const kinds[] = {NULL, "inspect", "copy", "repair", "source-vm"};
    const Drover__V1__ByteCounts *counts = task->counts;
    uint64_t length = task->range ? task->range->length : 0;
    bool done = task->status == DROVER__V1__TASK_STATUS__TASK_STATUS_DONE && counts;
    if (!drover_codec_check_ids(task->job_id, task->disk_id, task->task_id, error) ||
        !drover_codec_check_bytes(task->planned_bytes, "planned_bytes", error) ||
        !drover_codec_check_bytes(length, "range.length", error) ||
        (counts && (!drover_codec_check_bytes(counts->data_bytes, "counts.data_bytes", error) ||
                    !drover_codec_check_bytes(counts->zero_found_bytes, "counts.zero_found_bytes", error))))
        return false;
    if ((guint)task->kind >= G_N_ELEMENTS(kinds) || !kinds[task->kind])
        return drover_fail(error, DROVER_ERROR_PERMANENT, "task '%s' is of unknown kind %d", task->task_id,
                           (int)task->kind);
    drover_args_string(args, task->job_id);
    drover_args_string(args, task->disk_id);
    drover_args_string(args, task->task_id);
    drover_args_unsigned(args, task->version);
    drover_args_unsigned(args, task->round);
    drover_args_string(args, kinds[task->kind]);
    drover_args_unsigned(args, task->planned_bytes);
    drover_args_unsigned(args, length);
    drover_args_string(args, done ? "1" : "0");
    drover_args_unsigned(args, counts ? counts->data_bytes : 0);
    drover_args_unsigned(args, counts ? counts->zero_found_bytes : 0);
    drover_args_signed(args, task->updated_at_ms);
    drover_args_time(args, task->updated_at_ms);
    return true;
}

/* "job/<job>", "job/<job>/disk/<disk>", "job/<job>/disk/<disk>/task/<task id, which may hold slashes>". */
static bool tombstone_args(const char *key, DroverFoldKind *kind, GPtrArray *args)
{
    g_auto(GStrv) parts = g_strsplit(key ? key : "", "/", 6);
    guint n = g_strv_length(parts);
    if (n < 2 || strcmp(parts[0], "job") != 0)
        return true;
    *kind = DROVER_FOLD_FORGET;
    drover_args_string(args, n == 2 ? "job" : n == 4 ? "disk" : n == 6 ? "task" : "other");
    drover_args_string(args, parts[1]);
    drover_args_string(args, n >= 4 ? parts[3] : "");
    return true;
}

bool drover_codec_state(const DroverRecord *record, DroverFoldKind *kind, GPtrArray *args, GError **error)
{
    if (!record->value)
        return tombstone_args(record->key, kind, args);
    Drover__V1__StateRecord *state = drover__v1__state_record__unpack(NULL, record->len, record->value);
    if (!state)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "no StateRecord");
    bool ok = true;
    switch (state->record_case) {
    case DROVER__V1__STATE_RECORD__RECORD_JOB:
        *kind = DROVER_FOLD_JOB;
        ok = job_args(state->job, args, error);
        break;
    case DROVER__V1__STATE_RECORD__RECORD_DISK:
        *kind = DROVER_FOLD_DISK;
        ok = disk_args(state->disk, args, error);
        break;
    case DROVER__V1__STATE_RECORD__RECORD_TASK:
        *kind = DROVER_FOLD_TASK;
        ok = task_args(state->task, args, error);
        break;
    case DROVER__V1__STATE_RECORD__RECORD_OFFSETS:
    default: /* the scheduler's own, or from a newer one */
        break;
    }
    drover__v1__state_record__free_unpacked(state, NULL);
    return ok;
}
