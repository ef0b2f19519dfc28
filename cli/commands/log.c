/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "cli/session.h"
#include "lib/base/drain.h"

#define PAGE "500"
#define FOLLOW_MS 500

typedef struct {
    char *at;   /* ISO time */
    char *text; /* the line without its time */
} Line;

static void line_clear(gpointer data)
{
    g_free(((Line *)data)->at);
    g_free(((Line *)data)->text);
}

static int by_time(gconstpointer a, gconstpointer b)
{
    return strcmp(((const Line *)a)->at, ((const Line *)b)->at);
}

static Line read_line(const redisReply *pairs)
{
    static const char *const own[] = {"at", "level", "event", "message", "process_id", NULL};
    const char *values[] = {"", "info", "", "", ""};
    GString *rest = g_string_new(NULL);
    for (size_t i = 0; i + 1 < pairs->elements; i += 2) {
        const char *name = pairs->element[i]->str, *value = pairs->element[i + 1]->str;
        bool known = false;
        for (guint k = 0; own[k]; k++) {
            if (strcmp(own[k], name) == 0) {
                values[k] = value;
                known = true;
            }
        }
        if (!known)
            g_string_append_printf(rest, " %s=%s", name, value);
    }
    Line line = {g_strdup(values[0]), g_strdup_printf("%-7s %-20s %s%s%s%s%s", values[1], values[2], values[3], rest->str,
                                                      *values[4] ? " [" : "", values[4], *values[4] ? "]" : "")};
    g_string_free(rest, TRUE);
    return line;
}

/* Entries after *LAST, which moves on. */
static GArray *read_entries(DroverSession *session, const char *key, char **last, GError **error)
{
    g_autoptr(GArray) lines = g_array_new(FALSE, FALSE, sizeof(Line));
    g_array_set_clear_func(lines, line_clear);
    for (;;) {
        g_autofree char *from = g_strconcat("(", *last, NULL);
        g_autoptr(DroverRedisReply) r =
            drover_redis_call(session->redis, error, "XRANGE", key, from, "+", "COUNT", PAGE, NULL);
        if (!r)
            return NULL;
        if (r->type != REDIS_REPLY_ARRAY || r->elements == 0)
            return g_steal_pointer(&lines);
        for (size_t i = 0; i < r->elements; i++) {
            Line line = read_line(r->element[i]->element[1]);
            g_array_append_val(lines, line);
        }
        g_free(*last);
        *last = g_strdup(r->element[r->elements - 1]->element[0]->str);
    }
}

static DroverExitCode run(const DroverCommand *command, int argc, char **argv)
{
    gboolean follow = FALSE;
    const GOptionEntry flags[] = {
        {"follow", 0, 0, G_OPTION_ARG_NONE, &follow, "Go on printing what comes, until Ctrl-C", NULL},
        {NULL},
    };
    g_auto(DroverSession) session = {0};
    g_autoptr(GError) error = NULL;
    DroverExitCode code;
    if (!drover_session_open(&session, command, flags, argc, argv, 1, 1, &code))
        return code;
    if (follow)
        drover_drain_install();
    if (!drover_session_redis(&session, &error))
        return drover_session_fail(&session, error);
    g_autofree char *key = g_strconcat(drover_redis_prefix(session.redis), "log:", session.argv[0], NULL);
    g_autofree char *last = g_strdup("0-0");
    bool any = false;
    do {
        g_autoptr(GArray) lines = read_entries(&session, key, &last, &error);
        if (!lines)
            return drover_session_fail(&session, error);
        g_array_sort(lines, by_time);
        for (guint i = 0; i < lines->len; i++)
            g_print("%s %s\n", g_array_index(lines, Line, i).at, g_array_index(lines, Line, i).text);
        any = any || lines->len > 0;
    } while (follow && !drover_drain_wait(FOLLOW_MS));
    if (!any && !follow) {
        g_printerr("drover log: no log of a job '%s' in the view\n", session.argv[0]);
        return DROVER_EXIT_NOT_FOUND;
    }
    return DROVER_EXIT_OK;
}

const DroverCommand drover_command_log = {
    .name = "log",
    .synopsis = "JOB",
    .summary = "print a job's log",
    .description = "Prints what happened to a job, by time: its steps, failures of tasks, notices of workers and agents.",
    .run = run,
};
