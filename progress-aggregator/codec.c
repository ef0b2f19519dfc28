/* SPDX-License-Identifier: Apache-2.0 */
#include "progress-aggregator/codec.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "drover/v1/event.pb-c.h"
#include "drover/v1/fleet.pb-c.h"
#include "drover/v1/job.pb-c.h"
#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "lib/base/log.h"
#include "progress-aggregator/codec-internal.h"
#include "progress-aggregator/vocabulary.h"

/* A silent process is gone after so many of its own intervals. */
#define INTERVALS_TO_LIVE 3
/* The end of a task comes after all its progress. */
#define LAST_SEQUENCE (UINT64_C(1) << 52)
#define TASK_ID_MAX 512

/* ---- arguments ------------------------------------------------------------------------------------------------ */

void drover_args_string(GPtrArray *args, const char *text)
{
    g_ptr_array_add(args, g_utf8_make_valid(text ? text : "", -1));
}

void drover_args_unsigned(GPtrArray *args, uint64_t number)
{
    g_ptr_array_add(args, g_strdup_printf("%" G_GUINT64_FORMAT, number));
}

void drover_args_signed(GPtrArray *args, int64_t number)
{
    g_ptr_array_add(args, g_strdup_printf("%" G_GINT64_FORMAT, number));
}

void drover_args_time(GPtrArray *args, int64_t unix_ms)
{
    g_ptr_array_add(args, unix_ms > 0 ? drover_iso8601(unix_ms) : g_strdup(""));
}

DroverPairs drover_pairs_begin(GPtrArray *args)
{
    g_ptr_array_add(args, NULL);
    return (DroverPairs){.args = args, .count_at = args->len - 1, .first = args->len};
}

void drover_pairs_end(DroverPairs *pairs)
{
    g_assert((pairs->args->len - pairs->first) % 2 == 0);
    g_ptr_array_index(pairs->args, pairs->count_at) = g_strdup_printf("%u", (pairs->args->len - pairs->first) / 2);
}

bool drover_codec_check_ids(const char *job_id, const char *disk_id, const char *task_id, GError **error)
{
    if (!drover_id_is_valid(job_id))
        return drover_fail(error, DROVER_ERROR_PERMANENT, "job id '%.64s' is not of [A-Za-z0-9._-]{1,64}", job_id);
    if (disk_id && !drover_id_is_valid(disk_id))
        return drover_fail(error, DROVER_ERROR_PERMANENT, "disk id '%.64s' of job '%s' is not of [A-Za-z0-9._-]{1,64}",
                           disk_id, job_id);
    if (task_id && (!*task_id || strlen(task_id) > TASK_ID_MAX))
        return drover_fail(error, DROVER_ERROR_PERMANENT, "task id of job '%s' has %zu bytes; 1 to %d are allowed",
                           job_id, strlen(task_id), TASK_ID_MAX);
    return true;
}

bool drover_codec_check_bytes(uint64_t bytes, const char *what, GError **error)
{
    if (bytes > DROVER_FOLD_MAX_BYTES)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "%s = %" G_GUINT64_FORMAT " cannot be meant: more than 8 PiB",
                           what, bytes);
    return true;
}

/* ---- progress and checkpoints --------------------------------------------------------------------------------- */

static bool check_counts(const Drover__V1__ByteCounts *counts, GError **error)
{
    return !counts || (drover_codec_check_bytes(counts->data_bytes, "counts.data_bytes", error) &&
                       drover_codec_check_bytes(counts->zero_found_bytes, "counts.zero_found_bytes", error));
}

static bool decode_progress(const DroverRecord *record, DroverFoldKind *kind, GPtrArray *args, GError **error)
{
    Drover__V1__Progress *p = drover__v1__progress__unpack(NULL, record->len, record->value);
    if (!p)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "no Progress message");
    bool ok = drover_codec_check_ids(p->job_id, p->disk_id, p->task_id, error) && check_counts(p->counts, error) &&
              drover_codec_check_bytes(p->rate_bytes_per_second, "rate_bytes_per_second", error) &&
              drover_codec_check_bytes(p->sequence, "sequence", error);
    if (ok) {
        *kind = DROVER_FOLD_PROGRESS;
        drover_args_string(args, p->job_id);
        drover_args_string(args, p->disk_id);
        drover_args_string(args, p->task_id);
        drover_args_unsigned(args, p->round);
        drover_args_unsigned(args, p->attempt);
        drover_args_unsigned(args, p->sequence);
        drover_args_string(args, p->repair ? "repair" : "?");
        drover_args_string(args, "0");
        drover_args_unsigned(args, p->counts ? p->counts->data_bytes : 0);
        drover_args_unsigned(args, p->counts ? p->counts->zero_found_bytes : 0);
        drover_args_unsigned(args, p->rate_bytes_per_second);
        drover_args_signed(args, p->at_ms);
        drover_args_time(args, p->at_ms);
        drover_args_string(args, drover_word_stall(p->stall_cause));
    }
    drover__v1__progress__free_unpacked(p, NULL);
    return ok;
}

static bool cell_args(const Drover__V1__CellDone *cell, GPtrArray *args, GError **error)
{
    /* SETBIT ends at 2^32 bits: 128 PiB of cells. */
    if (cell->cell > UINT32_MAX)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "cell %" G_GUINT64_FORMAT " cannot be meant", cell->cell);
    if (!drover_codec_check_bytes(cell->data_bytes, "cells.data_bytes", error) ||
        !drover_codec_check_bytes(cell->zero_found_bytes, "cells.zero_found_bytes", error))
        return false;
    drover_args_unsigned(args, cell->cell);
    drover_args_unsigned(args, cell->data_bytes);
    drover_args_unsigned(args, cell->zero_found_bytes);
    return true;
}

static bool decode_checkpoint(const DroverRecord *record, DroverFoldKind *kind, GPtrArray *args, GError **error)
{
    Drover__V1__Checkpoint *c = drover__v1__checkpoint__unpack(NULL, record->len, record->value);
    if (!c)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "no Checkpoint message");
    bool ok = drover_codec_check_ids(c->job_id, c->disk_id, c->task_id, error);
    if (ok) {
        *kind = DROVER_FOLD_CHECKPOINT;
        drover_args_string(args, c->job_id);
        drover_args_string(args, c->disk_id);
        drover_args_string(args, c->task_id);
        drover_args_unsigned(args, c->round);
        drover_args_signed(args, c->at_ms);
        drover_args_time(args, c->at_ms);
    }
    for (size_t i = 0; ok && i < c->n_cells; i++)
        ok = cell_args(c->cells[i], args, error);
    drover__v1__checkpoint__free_unpacked(c, NULL);
    return ok;
}

/* ---- the job log ---------------------------------------------------------------------------------------------- */

static void log_args(GPtrArray *args, const char *job_id, int64_t at_ms, const char *level, const char *event,
                     const char *message, const char *disk_id, const char *task_id, const char *process_id)
{
    g_autofree char *clean = drover_redact(message);
    drover_args_string(args, job_id);
    PAIR_TIME(args, "at", at_ms);
    PAIR_STRING(args, "level", *level ? level : "info");
    PAIR_STRING(args, "event", event);
    PAIR_STRING(args, "message", clean);
    if (*disk_id)
        PAIR_STRING(args, "disk_id", disk_id);
    if (*task_id)
        PAIR_STRING(args, "task_id", task_id);
    if (*process_id)
        PAIR_STRING(args, "process_id", process_id);
}

static bool decode_audit(const DroverRecord *record, DroverFoldKind *kind, GPtrArray *args, GError **error)
{
    Drover__V1__AuditRecord *a = drover__v1__audit_record__unpack(NULL, record->len, record->value);
    if (!a)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "no AuditRecord");
    bool ok = true;
    if (*a->job_id) { /* else: about no job */
        ok = drover_codec_check_ids(a->job_id, NULL, NULL, error);
        if (ok) {
            *kind = DROVER_FOLD_LOG;
            log_args(args, a->job_id, a->at_ms, a->level, a->event, a->message, a->disk_id, "", a->process_id);
            for (size_t i = 0; i < a->n_fields && i < 50; i++) {
                g_autofree char *value = drover_redact(a->fields[i]->value);
                PAIR_STRING(args, a->fields[i]->key, value);
            }
        }
    }
    drover__v1__audit_record__free_unpacked(a, NULL);
    return ok;
}

/* ---- events --------------------------------------------------------------------------------------------------- */

static void event_log(const Drover__V1__Event *e, GPtrArray *args, const char *level, const char *name,
                      const char *message)
{
    log_args(args, e->job_id, e->at_ms, level, name, message, e->disk_id, e->task_id, e->process_id);
}

static bool finished_args(const Drover__V1__Event *e, DroverFoldKind *kind, GPtrArray *args, GError **error)
{
    const Drover__V1__ByteCounts *counts = e->finished->counts;
    if (!counts)
        return true;
    if (!drover_codec_check_ids(e->job_id, e->disk_id, e->task_id, error) || !check_counts(counts, error))
        return false;
    *kind = DROVER_FOLD_PROGRESS;
    drover_args_string(args, e->job_id);
    drover_args_string(args, e->disk_id);
    drover_args_string(args, e->task_id);
    drover_args_unsigned(args, e->round);
    drover_args_unsigned(args, e->attempt);
    drover_args_unsigned(args, LAST_SEQUENCE);
    drover_args_string(args, "known");
    drover_args_string(args, "1");
    drover_args_unsigned(args, counts->data_bytes);
    drover_args_unsigned(args, counts->zero_found_bytes);
    drover_args_unsigned(args, 0);
    drover_args_signed(args, e->at_ms);
    drover_args_time(args, e->at_ms);
    drover_args_string(args, "");
    return true;
}

static void failed_args(const Drover__V1__Event *e, GPtrArray *args)
{
    const Drover__V1__Error *error = e->failed->error;
    g_autofree char *message =
        g_strdup_printf("Attempt %u failed: %s%s%s", e->attempt, error ? error->code : "",
                        error && *error->code && !g_str_has_prefix(error->message, error->code) ? ": " : "",
                        !error                                           ? "no reason given"
                        : *error->code && g_str_has_prefix(error->message, error->code) ? error->message + strlen(error->code)
                                                                         : error->message);
    event_log(e, args, "warning", "task.failed", message);
}

static void inspected_args(const Drover__V1__Event *e, GPtrArray *args)
{
    const Drover__V1__InspectResult *r = e->inspected;
    g_autofree char *message = g_strdup_printf(
        "Source is %s, %.1f GB, of which %.1f GB %s", *r->format ? r->format : "a disk", (double)r->capacity_bytes / 1e9,
        (double)r->allocated_bytes / 1e9, r->extents_available ? "are data" : "must be read, for the format lists no holes");
    event_log(e, args, "info", "source.inspected", message);
}

static bool verified_args(const Drover__V1__Event *e, GPtrArray *args)
{
    const Drover__V1__VerifyResult *r = e->verified;
    g_autofree char *message = NULL;
    if (r->n_mismatched_cells)
        message = g_strdup_printf("%zu cells differ when read back; they are written again", r->n_mismatched_cells);
    else if (r->error)
        message = g_strdup_printf("Read-back could not be done: %s", r->error->message);
    else
        return false;
    event_log(e, args, "warning", "verify.mismatch", message);
    return true;
}

static bool event_args(const Drover__V1__Event *e, DroverFoldKind *kind, GPtrArray *args, GError **error)
{
    if (!drover_codec_check_ids(e->job_id, NULL, NULL, error))
        return false;
    DroverFoldKind found = DROVER_FOLD_LOG;
    switch (e->body_case) {
    case DROVER__V1__EVENT__BODY_FINISHED:
        return finished_args(e, kind, args, error);
    case DROVER__V1__EVENT__BODY_FAILED:
        failed_args(e, args);
        break;
    case DROVER__V1__EVENT__BODY_RELEASED: {
        g_autofree char *message = g_strdup_printf("Handed back unfinished: %s", e->released->reason);
        event_log(e, args, "info", "task.released", message);
        break;
    }
    case DROVER__V1__EVENT__BODY_INSPECTED:
        inspected_args(e, args);
        break;
    case DROVER__V1__EVENT__BODY_VERIFIED:
        if (!verified_args(e, args))
            found = DROVER_FOLD_SKIP;
        break;
    case DROVER__V1__EVENT__BODY_NOTICE:
        event_log(e, args, e->notice->level, e->notice->event, e->notice->message);
        break;
    case DROVER__V1__EVENT__BODY_CLAIMED:
    default:
        found = DROVER_FOLD_SKIP;
        break;
    }
    *kind = found;
    return true;
}

static bool decode_event(const DroverRecord *record, DroverFoldKind *kind, GPtrArray *args, GError **error)
{
    Drover__V1__Event *e = drover__v1__event__unpack(NULL, record->len, record->value);
    if (!e)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "no Event message");
    /* What is about no job (an agent's notice of its own) has no place in a job's log. */
    bool ok = !*e->job_id || event_args(e, kind, args, error);
    drover__v1__event__free_unpacked(e, NULL);
    return ok;
}

/* ---- fleet ---------------------------------------------------------------------------------------------------- */

static void add_role(json_t *o, const Drover__V1__Heartbeat *h)
{
    if (h->worker) {
        json_object_set_new(o, "copy_slots", json_integer(h->worker->copy_slots));
        json_object_set_new(o, "source_slots", json_integer(h->worker->source_slots));
        json_object_set_new(o, "running_tasks", json_integer((json_int_t)h->worker->n_running));
    }
    if (h->agent) {
        json_object_set_new(o, "agent", json_string(h->agent->agent));
        json_object_set_new(o, "device_slots", json_integer(h->agent->device_slots));
        json_object_set_new(o, "free_device_slots", json_integer(h->agent->free_device_slots));
        json_object_set_new(o, "open_exports", json_integer((json_int_t)h->agent->n_exports));
        json_object_set_new(o, "appliance_draining", json_boolean(h->agent->draining));
        json_object_set_new(o, "appliance_drained", json_boolean(h->agent->drained));
        json_object_set_new(o, "scope", json_string(h->agent->scope));
        json_object_set_new(o, "cloudstack_reachable", json_boolean(h->agent->cloudstack_reachable));
    }
    if (h->scheduler) {
        json_object_set_new(o, "leader", json_boolean(h->scheduler->leader));
        json_object_set_new(o, "jobs_active", json_integer((json_int_t)h->scheduler->jobs_active));
        json_object_set_new(o, "tasks_ready", json_integer((json_int_t)h->scheduler->tasks_ready));
        json_object_set_new(o, "tasks_running", json_integer((json_int_t)h->scheduler->tasks_running));
    }
}

static char *heartbeat_json(const Drover__V1__Heartbeat *h)
{
    const char *role = drover_word_role(h->role);
    g_autofree char *at = drover_iso8601(h->at_ms);
    g_autofree char *started = drover_iso8601(h->started_at_ms);
    json_t *o = json_object();
    json_object_set_new(o, "process_id", json_string(h->process_id));
    json_object_set_new(o, "instance_id", json_string(h->instance_id));
    json_object_set_new(o, "role", json_string(role ? role : "unknown"));
    json_object_set_new(o, "site", json_string(h->site));
    json_object_set_new(o, "host", json_string(h->host));
    json_object_set_new(o, "pid", json_integer(h->pid));
    json_object_set_new(o, "version", json_string(h->version));
    json_object_set_new(o, "started_at", json_string(started));
    json_object_set_new(o, "at", json_string(at));
    json_object_set_new(o, "at_ms", json_integer(h->at_ms));
    json_object_set_new(o, "expires_at_ms", json_integer(h->at_ms + (json_int_t)h->interval_ms * INTERVALS_TO_LIVE));
    json_object_set_new(o, "draining", json_boolean(h->draining));
    json_object_set_new(o, "stopped", json_boolean(h->stopped));
    add_role(o, h);
    char *text = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    return text;
}

static bool decode_heartbeat(const DroverRecord *record, DroverFoldKind *kind, GPtrArray *args, GError **error)
{
    Drover__V1__Heartbeat *h = drover__v1__heartbeat__unpack(NULL, record->len, record->value);
    if (!h)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "no Heartbeat");
    bool ok = drover_id_is_valid(h->process_id) ||
              drover_fail(error, DROVER_ERROR_PERMANENT, "process id '%.64s' is not of [A-Za-z0-9._-]{1,64}",
                          h->process_id);
    if (ok) {
        *kind = DROVER_FOLD_FLEET;
        drover_args_string(args, h->process_id);
        drover_args_signed(args, h->at_ms);
        char *json = heartbeat_json(h);
        drover_args_string(args, json);
        free(json); /* jansson's allocator */
    }
    drover__v1__heartbeat__free_unpacked(h, NULL);
    return ok;
}

/* ---- by topic ------------------------------------------------------------------------------------------------- */

bool drover_codec_decode(const DroverRecord *record, DroverFoldKind *kind, GPtrArray *args, GError **error)
{
    static const struct {
        const char *topic; /* or its beginning */
        bool (*decode)(const DroverRecord *, DroverFoldKind *, GPtrArray *, GError **);
    } decoders[] = {
        {"drover.events.", decode_event}, {"drover.progress.", decode_progress}, {"drover.checkpoints.", decode_checkpoint},
        {"drover.audit", decode_audit},   {"drover.fleet", decode_heartbeat},
    };
    guint before = args->len;
    bool ok = true;
    *kind = DROVER_FOLD_SKIP;
    if (strcmp(record->topic, "drover.state") == 0) {
        ok = drover_codec_state(record, kind, args, error);
    } else if (record->value) { /* tombstones of other topics say nothing here */
        for (guint i = 0; i < G_N_ELEMENTS(decoders); i++)
            if (g_str_has_prefix(record->topic, decoders[i].topic))
                ok = decoders[i].decode(record, kind, args, error);
    }
    if (!ok || *kind == DROVER_FOLD_SKIP) {
        g_ptr_array_set_size(args, (gint)before);
        *kind = DROVER_FOLD_SKIP;
    }
    return ok;
}
