/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "cli/bar.h"
#include "cli/render.h"
#include "cli/session.h"
#include "cli/view.h"

static void line(const char *label, const char *value)
{
    if (*value)
        g_print("%-18s %s\n", label, value);
}

static void print_disk(GHashTable *d)
{
    g_autofree char *done = drover_size_text(drover_view_number(d, "bytes_synced"));
    g_autofree char *total = drover_size_text(drover_view_number(d, "total_bytes"));
    g_autofree char *capacity = drover_size_text(drover_view_number(d, "capacity_bytes"));
    g_autofree char *verified = drover_size_text(drover_view_number(d, "verified_bytes"));
    g_autofree char *percent =
        drover_percent_text(drover_view_number(d, "bytes_synced"), drover_view_number(d, "total_bytes"));
    bool estimate = drover_render_is_estimate(d);
    g_print("\ndisk %s\n", drover_view_text(d, "disk_id"));
    line("  source", drover_view_text(d, "source"));
    line("  format", drover_view_text(d, "format"));
    line("  status", drover_view_text(d, "sync_status"));
    g_print("%-18s %s, %s of %s%s; capacity %s\n", "  progress", percent, done, estimate ? "at most " : "", total, capacity);
    g_print("%-18s %s\n", "  read back", verified);
    if (drover_view_number(d, "repaired_cells"))
        line("  repaired cells", drover_view_text(d, "repaired_cells"));
    line("  volume", drover_view_text(d, "volume_id"));
    line("  device", drover_view_text(d, "device_path"));
    line("  receipt", drover_view_text(d, "receipt"));
}

/* How far behind the source the target is, and whether rounds get smaller. */
static void print_replication(GHashTable *fields)
{
    const char *rounds = drover_view_text(fields, "rounds"), *until = drover_view_text(fields, "replicated_until");
    int64_t interval_ms = drover_view_number(fields, "round_interval_ms");
    if (interval_ms > 0) {
        g_autofree char *interval = drover_duration_text(interval_ms / 1000);
        g_print("%-18s %s\n", "rounds every", interval);
    }
    if (*until == '\0')
        return;
    g_autoptr(GTimeZone) utc = g_time_zone_new_utc();
    g_autoptr(GDateTime) then = g_date_time_new_from_iso8601(until, utc);
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *lag =
        drover_duration_text(then != NULL ? g_date_time_difference(now, then) / G_TIME_SPAN_SECOND : -1);
    g_print("%-18s %s, %s ago\n", "recovery point", until, lag);
    g_auto(GStrv) list = g_strsplit(rounds, ",", -1);
    for (guint i = 0; list[i] != NULL; i++) {
        g_auto(GStrv) part = g_strsplit(list[i], ":", 4);
        if (g_strv_length(part) != 4)
            continue;
        g_autofree char *size = drover_size_text(g_ascii_strtoll(part[2], NULL, 10));
        g_print("  round %-10s %s, %s moved in %s ms\n", part[0], part[1], size, part[3]);
    }
}

static void print_job(const DroverJobView *view)
{
    GHashTable *f = view->fields;
    g_autofree char *done = drover_size_text(drover_view_number(f, "bytes_transferred"));
    g_autofree char *total = drover_size_text(drover_view_number(f, "total_bytes"));
    g_autofree char *rate = drover_rate_text(drover_view_number(f, "transfer_speed_bps"));
    g_autofree char *percent =
        drover_percent_text(drover_view_number(f, "bytes_transferred"), drover_view_number(f, "total_bytes"));
    const char *eta = drover_view_text(f, "vma_eta_seconds");
    g_autofree char *left = drover_duration_text(*eta ? g_ascii_strtoll(eta, NULL, 10) : -1);
    line("job", view->job_id);
    line("name", drover_view_text(f, "name"));
    line("status", drover_view_text(f, "status"));
    line("operation", drover_view_text(f, "current_operation"));
    line("waits for", drover_view_text(f, "stall_reason"));
    line("error", drover_view_text(f, "error_message"));
    g_print("%-18s %s, %s of %s, round %s (%s)\n", "progress", percent, done, total, drover_view_text(f, "round"),
            drover_view_text(f, "vma_sync_type"));
    if (!drover_view_ended(view))
        g_print("%-18s %s, ETA %s\n", "rate", rate, left);
    print_replication(f);
    line("agent", drover_view_text(f, "agent"));
    line("created", drover_view_text(f, "created_at"));
    line("started", drover_view_text(f, "started_at"));
    line("completed", drover_view_text(f, "completed_at"));
    if (g_hash_table_size(view->failover)) {
        g_print("%-18s %s: VM %s (%s) %s\n", "failover", drover_view_text(view->failover, "status"),
                drover_view_text(view->failover, "destination_vm_name"),
                drover_view_text(view->failover, "destination_vm_id"),
                drover_view_text(view->failover, "destination_vm_state"));
    }
    for (guint i = 0; i < view->disks->len; i++)
        print_disk(g_ptr_array_index(view->disks, i));
}

static DroverExitCode run(const DroverCommand *command, int argc, char **argv)
{
    gboolean json = FALSE;
    const GOptionEntry flags[] = {
        {"json", 0, 0, G_OPTION_ARG_NONE, &json, "One JSON object with all fields", NULL},
        {NULL},
    };
    g_auto(DroverSession) session = {0};
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverJobView) view = NULL;
    DroverExitCode code;
    if (!drover_session_open(&session, command, flags, argc, argv, 1, 1, &code))
        return code;
    if (!drover_session_redis(&session, &error) || !drover_view_job(session.redis, session.argv[0], &view, &error))
        return drover_session_fail(&session, error);
    if (!view) {
        g_printerr("drover show: no job '%s' in the view; `drover jobs` lists those there are\n", session.argv[0]);
        return DROVER_EXIT_NOT_FOUND;
    }
    if (!json) {
        print_job(view);
        return DROVER_EXIT_OK;
    }
    json_t *object = drover_view_json(view);
    char *text = json_dumps(object, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    g_print("%s\n", text);
    free(text);
    json_decref(object);
    return DROVER_EXIT_OK;
}

const DroverCommand drover_command_show = {
    .name = "show",
    .synopsis = "JOB",
    .summary = "show one job with its disks",
    .description = "Shows what the Redis view holds about one job.",
    .run = run,
};
