/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/render.h"

#include <string.h>

#include "cli/bar.h"

#define BAR_MOST 40
#define BAR_LEAST 10

static char *eta_text(GHashTable *fields, const char *name)
{
    const char *seconds = drover_view_text(fields, name);
    return drover_duration_text(*seconds ? g_ascii_strtoll(seconds, NULL, 10) : -1);
}

bool drover_render_is_estimate(GHashTable *disk)
{
    return *drover_view_text(disk, "format") && strcmp(drover_view_text(disk, "extents_available"), "0") == 0 &&
           strcmp(drover_view_text(disk, "sync_status"), "completed") != 0;
}

static char *disk_line(GHashTable *disk, const DroverScreen *screen, int id_width)
{
    uint64_t bytes = drover_view_number(disk, "bytes_synced"), total = drover_view_number(disk, "total_bytes");
    g_autofree char *percent = drover_percent_text(bytes, total);
    g_autofree char *done = drover_size_text(bytes);
    g_autofree char *all = drover_size_text(total);
    g_autofree char *rate = drover_rate_text(drover_view_number(disk, "transfer_speed_bps"));
    g_autofree char *eta = eta_text(disk, "eta_seconds");
    const char *status = drover_view_text(disk, "sync_status");
    bool estimate = drover_render_is_estimate(disk);
    int fixed = id_width + 68 + (estimate ? 11 : 0);
    int width = CLAMP(screen->columns - fixed, BAR_LEAST, BAR_MOST);
    g_autofree char *bar = drover_bar(bytes, total, width, screen->unicode);
    g_autofree char *sizes = g_strdup_printf("%s / %s%s", done, estimate ? "at most " : "", all);
    return g_strdup_printf("  %-*s %s%s%s %6s  %-21s %11s  ETA %-7s %s", id_width, drover_view_text(disk, "disk_id"),
                           screen->unicode ? "▕" : "[", bar, screen->unicode ? "▏" : "]", percent, sizes, rate, eta,
                           status);
}

static char *job_line(const DroverJobView *view, const DroverScreen *screen)
{
    GHashTable *f = view->fields;
    g_autofree char *percent =
        drover_percent_text(drover_view_number(f, "bytes_transferred"), drover_view_number(f, "total_bytes"));
    g_autofree char *rate = drover_rate_text(drover_view_number(f, "transfer_speed_bps"));
    g_autofree char *eta = eta_text(f, "vma_eta_seconds");
    const char *status = drover_view_text(f, "status");
    const char *stall = drover_view_text(f, "stall_reason");
    GString *out = g_string_new(NULL);
    g_string_append_printf(out, "%s%s%s  %s  %s", screen->color ? "\033[1m" : "", view->job_id,
                           screen->color ? "\033[0m" : "", drover_view_text(f, "name"),
                           drover_view_text(f, "current_operation"));
    if (strcmp(status, "running") != 0 && !drover_view_ended(view))
        g_string_append_printf(out, " (%s)", status);
    g_string_append_printf(out, "  %s  %s  ETA %s", percent, rate, eta);
    if (*stall)
        g_string_append_printf(out, "  waits: %s", stall);
    return g_string_free(out, FALSE);
}

/* Cuts at COLUMNS characters, escape sequences aside, so that the screen's line count stays right. */
static char *fit(char *line, int columns)
{
    int seen = 0;
    bool escape = false;
    for (char *p = line; *p; p = g_utf8_next_char(p)) {
        if (*p == '\033')
            escape = true;
        if (!escape && ++seen > columns) {
            *p = '\0';
            break;
        }
        if (escape && *p == 'm')
            escape = false;
    }
    return line;
}

void drover_render_bars(const DroverJobView *view, const DroverScreen *screen, GPtrArray *lines)
{
    int id_width = 5;
    bool estimate = false;
    for (guint i = 0; i < view->disks->len; i++) {
        GHashTable *disk = g_ptr_array_index(view->disks, i);
        id_width = MAX(id_width, (int)strlen(drover_view_text(disk, "disk_id")));
        estimate = estimate || drover_render_is_estimate(disk);
    }
    g_ptr_array_add(lines, fit(job_line(view, screen), screen->columns - 1));
    for (guint i = 0; i < view->disks->len; i++)
        g_ptr_array_add(lines,
                        fit(disk_line(g_ptr_array_index(view->disks, i), screen, id_width), screen->columns - 1));
    if (estimate && !drover_view_ended(view))
        g_ptr_array_add(lines, fit(g_strdup("  \"at most\": the format does not tell what is in use; zeroes found while "
                                            "reading lower the total"),
                                   screen->columns - 1));
}

char *drover_render_line(const DroverJobView *view)
{
    GHashTable *f = view->fields;
    g_autofree char *percent =
        drover_percent_text(drover_view_number(f, "bytes_transferred"), drover_view_number(f, "total_bytes"));
    g_autofree char *done = drover_size_text(drover_view_number(f, "bytes_transferred"));
    g_autofree char *all = drover_size_text(drover_view_number(f, "total_bytes"));
    const char *stall = drover_view_text(f, "stall_reason");
    bool estimate = false;
    for (guint i = 0; i < view->disks->len; i++)
        estimate = estimate || drover_render_is_estimate(g_ptr_array_index(view->disks, i));
    return g_strdup_printf("%s %s %s %s %s of %s%s%s%s", view->job_id, drover_view_text(f, "status"),
                           drover_view_text(f, "current_operation"), percent, done, estimate ? "at most " : "", all,
                           *stall ? " waits: " : "", stall);
}

/* Seconds between two ISO times of the view; -1 when one is missing. */
static int64_t elapsed(GHashTable *fields, const char *from, const char *to)
{
    g_autoptr(GDateTime) a = g_date_time_new_from_iso8601(drover_view_text(fields, from), NULL);
    g_autoptr(GDateTime) b = g_date_time_new_from_iso8601(drover_view_text(fields, to), NULL);
    return a && b ? g_date_time_difference(b, a) / G_USEC_PER_SEC : -1;
}

char *drover_render_outcome(const DroverJobView *view)
{
    GHashTable *f = view->fields;
    int64_t seconds = elapsed(f, "created_at", "completed_at");
    g_autofree char *time = drover_duration_text(seconds);
    g_autofree char *bytes = drover_size_text(drover_view_number(f, "bytes_transferred"));
    const char *message = drover_view_text(f, "error_message");
    GString *out = g_string_new(NULL);
    g_string_append_printf(out, "%s (%s) %s", view->job_id, drover_view_text(f, "name"), drover_view_text(f, "status"));
    if (seconds >= 0)
        g_string_append_printf(out, " after %s", time);
    g_string_append_printf(out, ", %s moved", bytes);
    if (*message)
        g_string_append_printf(out, "\n  %s", message);
    if (!drover_view_succeeded(view))
        g_string_append_printf(out, "\n  More: drover log %s", view->job_id);
    return g_string_free(out, FALSE);
}
