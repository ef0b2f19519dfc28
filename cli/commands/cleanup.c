/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/send.h"

static DroverExitCode run(const DroverCommand *command, int argc, char **argv)
{
    gboolean keep = FALSE;
    const GOptionEntry flags[] = {
        {"keep-volumes", 0, 0, G_OPTION_ARG_NONE, &keep, "Detach the volumes, but do not delete them", NULL},
        {NULL},
    };
    g_auto(DroverSession) session = {0};
    DroverExitCode code;
    if (!drover_session_open(&session, command, flags, argc, argv, 1, 1, &code))
        return code;
    Drover__V1__CleanupJob cleanup = DROVER__V1__CLEANUP_JOB__INIT;
    cleanup.keep_volumes = keep;
    Drover__V1__JobCommand message = DROVER__V1__JOB_COMMAND__INIT;
    message.command_case = DROVER__V1__JOB_COMMAND__COMMAND_CLEANUP;
    message.cleanup = &cleanup;
    return drover_send_for_job(&session, session.argv[0], &message, "clean-up asked for");
}

const DroverCommand drover_command_cleanup = {
    .name = "cleanup",
    .synopsis = "JOB",
    .summary = "undo whatever an ended job has left",
    .description = "Undoes whatever the ledger of an ended job lists: exports, attachments, VMs, volumes.",
    .run = run,
};
