/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "cli/send.h"
#include "cli/watch.h"
#include "lib/base/drain.h"

static bool was_cancelled(const DroverJobView *view)
{
    return strcmp(drover_view_text(view->fields, "status"), "cancelled") == 0;
}

static DroverExitCode run(const DroverCommand *command, int argc, char **argv)
{
    g_autofree char *reason = NULL;
    gboolean wait = FALSE;
    const GOptionEntry flags[] = {
        {"reason", 0, 0, G_OPTION_ARG_STRING, &reason, "For the job log", "TEXT"},
        {"wait", 0, 0, G_OPTION_ARG_NONE, &wait, "Wait until everything is undone", NULL},
        {NULL},
    };
    g_auto(DroverSession) session = {0};
    DroverExitCode code;
    if (!drover_session_open(&session, command, flags, argc, argv, 1, 1, &code))
        return code;
    if (wait)
        drover_drain_install();
    Drover__V1__CancelJob cancel = DROVER__V1__CANCEL_JOB__INIT;
    if (reason)
        cancel.reason = reason;
    Drover__V1__JobCommand message = DROVER__V1__JOB_COMMAND__INIT;
    message.command_case = DROVER__V1__JOB_COMMAND__COMMAND_CANCEL;
    message.cancel = &cancel;
    code = drover_send_for_job(&session, session.argv[0], &message, "cancellation asked for");
    if (code != DROVER_EXIT_OK || !wait)
        return code;
    const char *const ids[] = {session.argv[0], NULL};
    return drover_watch(&session, ids, &(DroverWatchOptions){.appear_ms = 15000, .succeeded = was_cancelled});
}

const DroverCommand drover_command_cancel = {
    .name = "cancel",
    .synopsis = "JOB",
    .summary = "stop a job and undo what it made",
    .description = "Stops the job's tasks and undoes whatever it has made at the target, in reverse order.",
    .run = run,
};
