/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "cli/bar.h"
#include "cli/session.h"
#include "cli/view.h"

static void print_row(const DroverJobView *view)
{
    GHashTable *f = view->fields;
    g_autofree char *percent =
        drover_percent_text(drover_view_number(f, "bytes_transferred"), drover_view_number(f, "total_bytes"));
    g_autofree char *total = drover_size_text(drover_view_number(f, "total_bytes"));
    g_autofree char *rate = drover_rate_text(drover_view_number(f, "transfer_speed_bps"));
    const char *eta = drover_view_text(f, "vma_eta_seconds");
    g_autofree char *left = drover_duration_text(*eta && !drover_view_ended(view) ? g_ascii_strtoll(eta, NULL, 10) : -1);
    g_print("%-24s %-20s %-12s %-14s %7s %10s %11s %-8s %s\n", view->job_id, drover_view_text(f, "name"),
            drover_view_text(f, "status"), drover_view_text(f, "current_operation"), percent, total, rate, left,
            drover_view_text(f, "updated_at"));
}

static DroverExitCode run(const DroverCommand *command, int argc, char **argv)
{
    g_autofree char *status = NULL;
    int limit = 50;
    gboolean json = FALSE;
    const GOptionEntry flags[] = {
        {"status", 0, 0, G_OPTION_ARG_STRING, &status,
         "Only these: queued, running, paused, replicating, completed, failed, cancelled, rolled-back", "STATUS"},
        {"limit", 0, 0, G_OPTION_ARG_INT, &limit, "At most so many, the last updated first; 0: all (default: 50)", "NUMBER"},
        {"json", 0, 0, G_OPTION_ARG_NONE, &json, "One JSON array", NULL},
        {NULL},
    };
    g_auto(DroverSession) session = {0};
    g_autoptr(GError) error = NULL;
    DroverExitCode code;
    if (!drover_session_open(&session, command, flags, argc, argv, 0, 0, &code))
        return code;
    g_autoptr(GPtrArray) ids =
        drover_session_redis(&session, &error) ? drover_view_jobs(session.redis, status, limit, &error) : NULL;
    if (!ids)
        return drover_session_fail(&session, error);
    json_t *array = json_array();
    if (!json && ids->len)
        g_print("%-24s %-20s %-12s %-14s %7s %10s %11s %-8s %s\n", "JOB", "NAME", "STATUS", "OPERATION", "DONE", "TOTAL",
                "RATE", "ETA", "UPDATED");
    for (guint i = 0; i < ids->len; i++) {
        g_autoptr(DroverJobView) view = NULL;
        if (!drover_view_job(session.redis, g_ptr_array_index(ids, i), &view, &error)) {
            json_decref(array);
            return drover_session_fail(&session, error);
        }
        if (view && json)
            json_array_append_new(array, drover_view_json(view));
        else if (view)
            print_row(view);
    }
    if (json) {
        char *text = json_dumps(array, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
        g_print("%s\n", text);
        free(text);
    } else if (!ids->len) {
        g_printerr("No jobs%s%s in the view.\n", status ? " with status " : "", status ? status : "");
    }
    json_decref(array);
    return DROVER_EXIT_OK;
}

const DroverCommand drover_command_jobs = {
    .name = "jobs",
    .synopsis = "",
    .summary = "list jobs",
    .description = "Lists jobs from the Redis view, the last updated first.",
    .run = run,
};
