/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/send.h"

static DroverExitCode run(const DroverCommand *command, int argc, char **argv)
{
    g_auto(DroverSession) session = {0};
    DroverExitCode code;
    if (!drover_session_open(&session, command, NULL, argc, argv, 1, 1, &code))
        return code;
    Drover__V1__PauseJob pause = DROVER__V1__PAUSE_JOB__INIT;
    Drover__V1__JobCommand message = DROVER__V1__JOB_COMMAND__INIT;
    message.command_case = DROVER__V1__JOB_COMMAND__COMMAND_PAUSE;
    message.pause = &pause;
    return drover_send_for_job(&session, session.argv[0], &message, "pause asked for");
}

const DroverCommand drover_command_pause = {
    .name = "pause",
    .synopsis = "JOB",
    .summary = "let a job rest; its tasks end at their next checkpoint",
    .description = "Running copy tasks stop at their next checkpoint; nothing that is copied is copied again.",
    .run = run,
};
