/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/send.h"

static DroverExitCode run(const DroverCommand *command, int argc, char **argv)
{
    g_auto(DroverSession) session = {0};
    DroverExitCode code;
    if (!drover_session_open(&session, command, NULL, argc, argv, 1, 1, &code))
        return code;
    Drover__V1__ResumeJob resume = DROVER__V1__RESUME_JOB__INIT;
    Drover__V1__JobCommand message = DROVER__V1__JOB_COMMAND__INIT;
    message.command_case = DROVER__V1__JOB_COMMAND__COMMAND_RESUME;
    message.resume = &resume;
    return drover_send_for_job(&session, session.argv[0], &message, "going on asked for");
}

const DroverCommand drover_command_resume = {
    .name = "resume",
    .synopsis = "JOB",
    .summary = "go on with a paused job",
    .description = "Goes on with a paused job where it stood.",
    .run = run,
};
