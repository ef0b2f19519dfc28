/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/send.h"
#include "lib/base/config.h"

static DroverExitCode run(const DroverCommand *command, int argc, char **argv)
{
    g_autofree char *interval = NULL;
    gboolean deep = FALSE, later = FALSE;
    const GOptionEntry flags[] = {
        {"deep-verify", 0, 0, G_OPTION_ARG_NONE, &deep, "Compare digests of all cells, and copy what differs", NULL},
        {"interval", 0, 0, G_OPTION_ARG_STRING, &interval,
         "From now on a round begins this often, e.g. 15m; 0s: only when told", "TIME"},
        {"later", 0, 0, G_OPTION_ARG_NONE, &later, "With --interval: no round now", NULL},
        {NULL},
    };
    g_auto(DroverSession) session = {0};
    g_autoptr(GError) error = NULL;
    DroverExitCode code;
    uint64_t interval_ms = 0;
    if (!drover_session_open(&session, command, flags, argc, argv, 1, 1, &code))
        return code;
    if (interval && !drover_parse_duration(interval, &interval_ms, &error))
        return drover_session_usage(&session, "--interval: %s", error->message);
    if (later && (!interval || deep))
        return drover_session_usage(&session, "--later goes with --interval only");
    Drover__V1__SyncJob sync = DROVER__V1__SYNC_JOB__INIT;
    sync.sync_type = deep ? DROVER__V1__SYNC_TYPE__SYNC_TYPE_DEEP_VERIFY : DROVER__V1__SYNC_TYPE__SYNC_TYPE_INCREMENTAL;
    sync.only_interval = later;
    if (interval) {
        sync.interval_case = DROVER__V1__SYNC_JOB__INTERVAL_ROUND_INTERVAL_MS;
        sync.round_interval_ms = interval_ms;
    }
    Drover__V1__JobCommand message = DROVER__V1__JOB_COMMAND__INIT;
    message.command_case = DROVER__V1__JOB_COMMAND__COMMAND_SYNC;
    message.sync = &sync;
    return drover_send_for_job(&session, session.argv[0], &message, later ? "interval changed" : "round asked for");
}

const DroverCommand drover_command_sync = {
    .name = "sync",
    .synopsis = "JOB",
    .summary = "bring a job's volumes up to date by another round",
    .description = "Begins the next round of a job whose last one is final, also of a failed job that kept its volumes.\n"
                   "Changed areas are copied where the source knows them; otherwise digests of both sides are compared\n"
                   "and what differs is copied. The source must be frozen during a round.",
    .run = run,
};
