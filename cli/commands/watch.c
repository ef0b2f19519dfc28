/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/watch.h"

#include "lib/base/drain.h"

#define APPEAR_MS 15000

/* All jobs that have not ended. */
static GPtrArray *active_jobs(DroverSession *session, GError **error)
{
    static const char *const statuses[] = {"running", "replicating", "paused", "queued"};
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < G_N_ELEMENTS(statuses); i++) {
        g_autoptr(GPtrArray) ids = drover_view_jobs(session->redis, statuses[i], 0, error);
        if (!ids)
            return NULL;
        for (guint k = 0; k < ids->len; k++)
            g_ptr_array_add(all, g_strdup(g_ptr_array_index(ids, k)));
    }
    g_ptr_array_add(all, NULL);
    return g_steal_pointer(&all);
}

static DroverExitCode run(const DroverCommand *command, int argc, char **argv)
{
    g_auto(DroverSession) session = {0};
    g_autoptr(GError) error = NULL;
    DroverExitCode code;
    drover_drain_install();
    if (!drover_session_open(&session, command, NULL, argc, argv, 0, 64, &code))
        return code;
    const DroverWatchOptions options = {.appear_ms = APPEAR_MS};
    if (session.argc > 0)
        return drover_watch(&session, (const char *const *)session.argv, &options);
    g_autoptr(GPtrArray) ids = drover_session_redis(&session, &error) ? active_jobs(&session, &error) : NULL;
    if (!ids)
        return drover_session_fail(&session, error);
    if (ids->len == 1) {
        g_print("No job is under way.\n");
        return DROVER_EXIT_OK;
    }
    return drover_watch(&session, (const char *const *)ids->pdata, &options);
}

const DroverCommand drover_command_watch = {
    .name = "watch",
    .synopsis = "[JOB...]",
    .summary = "follow jobs until they have ended",
    .description = "Draws a bar for each disk with rate and ETA; without a terminal prints a line per change. Without JOB\n"
                   "follows all that have not ended. Exits with 0 when all completed, 1 when one did not.\n"
                   "\"at most\" before a total: the format of the image does not tell which parts are in use, so the whole\n"
                   "disk counts until zeroes have been found while reading.",
    .run = run,
};
