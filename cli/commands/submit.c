/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "cli/job-file.h"
#include "cli/watch.h"
#include "lib/base/drain.h"
#include "lib/base/error.h"

/* "-" is standard input. */
static char *read_text(const char *name, GError **error)
{
    char *text = NULL;
    gsize len = 0;
    if (!g_file_get_contents(strcmp(name, "-") == 0 ? "/dev/stdin" : name, &text, &len, error))
        return NULL;
    if (strlen(text) != len) {
        g_free(text);
        drover_fail(error, DROVER_ERROR_PERMANENT, "%s is no text", name);
        return NULL;
    }
    return text;
}

static DroverExitCode run(const DroverCommand *command, int argc, char **argv)
{
    gboolean wait = FALSE, watch = FALSE, check = FALSE;
    const GOptionEntry flags[] = {
        {"check", 0, 0, G_OPTION_ARG_NONE, &check, "Read the file, submit nothing", NULL},
        {"wait", 0, 0, G_OPTION_ARG_NONE, &wait, "Wait for the end and exit by the outcome", NULL},
        {"watch", 0, 0, G_OPTION_ARG_NONE, &watch, "Show progress until the end and exit by the outcome", NULL},
        {NULL},
    };
    g_auto(DroverSession) session = {0};
    g_autoptr(GError) error = NULL;
    DroverExitCode code;
    if (!drover_session_open(&session, command, flags, argc, argv, 1, 1, &code))
        return code;
    g_auto(DroverRequest) r;
    drover_request_init(&r);
    g_autofree char *text = read_text(session.argv[0], &error);
    if (!text || !drover_job_file_parse(session.argv[0], text, &r, &error))
        return drover_session_usage(&session, "%s", error->message);
    if (check) {
        g_print("%s: good\n", session.argv[0]);
        return DROVER_EXIT_OK;
    }
    if (wait || watch)
        drover_drain_install();
    drover_request_look(&r);
    if (!drover_request_submit(&session, &r, &error))
        return drover_session_fail(&session, error);
    g_print("%s\n", r.job_id);
    if (!wait && !watch) {
        g_printerr("Accepted. Follow it with: drover watch %s\n", r.job_id);
        return DROVER_EXIT_OK;
    }
    const char *const ids[] = {r.job_id, NULL};
    return drover_watch(&session, ids, &(DroverWatchOptions){.quiet = !watch, .appear_ms = -1});
}

const DroverCommand drover_command_submit = {
    .name = "submit",
    .synopsis = "JOB.yaml",
    .summary = "submit a migration, described by a file",
    .description = "Submits the job that a YAML file describes (docs/examples/job.yaml shows every key; - reads standard\n"
                   "input) and prints the job's id once Kafka has it. Mistakes are told with line and key.",
    .run = run,
};
