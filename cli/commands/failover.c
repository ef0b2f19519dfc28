/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "cli/send.h"
#include "cli/watch.h"
#include "lib/base/drain.h"

#define TAKEN_UP_US (60 * G_TIME_SPAN_SECOND)

/* A failover that failed may be asked for again: what its end said is not the answer. */
static struct {
    char *started_at; /* of the failover before; "": none */
    int64_t until_us; /* one that is not taken up by then was refused */
} before;

static bool has_ended(const DroverJobView *view)
{
    static const char *const ends[] = {"completed", "failed", NULL};
    const char *status = drover_view_text(view->failover, "status");
    bool another = strcmp(drover_view_text(view->failover, "started_at"), before.started_at) != 0;
    if (!another && strcmp(status, "completed") != 0)
        return g_get_monotonic_time() >= before.until_us;
    return g_strv_contains(ends, status);
}

static bool remember(DroverSession *session, const char *job_id, GError **error)
{
    g_autoptr(DroverJobView) view = NULL;
    if (!drover_session_redis(session, error) || !drover_view_job(session->redis, job_id, &view, error))
        return false;
    before.started_at = g_strdup(view != NULL ? drover_view_text(view->failover, "started_at") : "");
    before.until_us = g_get_monotonic_time() + TAKEN_UP_US;
    return true;
}

static bool has_succeeded(const DroverJobView *view)
{
    return strcmp(drover_view_text(view->failover, "status"), "completed") == 0;
}

static DroverExitCode run(const DroverCommand *command, int argc, char **argv)
{
    g_autofree char *zone = NULL, *offering = NULL, *template_id = NULL, *os_type = NULL, *boot_type = NULL, *boot_mode = NULL;
    g_auto(GStrv) networks = NULL;
    gboolean wait = FALSE;
    const GOptionEntry flags[] = {
        {"service-offering", 0, 0, G_OPTION_ARG_STRING, &offering, "Of the VM; overrides the submission's", "NAME"},
        {"template", 0, 0, G_OPTION_ARG_STRING, &template_id, "Template to deploy from; overrides the submission's", "ID"},
        {"network", 0, 0, G_OPTION_ARG_STRING_ARRAY, &networks, "Network; overrides the submission's; may be repeated",
         "ID"},
        {"os-type", 0, 0, G_OPTION_ARG_STRING, &os_type, "OS type; overrides the submission's", "TYPE"},
        {"boot-type", 0, 0, G_OPTION_ARG_STRING, &boot_type, "BIOS or UEFI; overrides the submission's", "TYPE"},
        {"boot-mode", 0, 0, G_OPTION_ARG_STRING, &boot_mode, "LEGACY or SECURE; overrides the submission's", "MODE"},
        {"zone", 0, 0, G_OPTION_ARG_STRING, &zone, "Zone; overrides the submission's", "ZONE"},
        {"wait", 0, 0, G_OPTION_ARG_NONE, &wait, "Wait for the end of the failover and exit by its outcome", NULL},
        {NULL},
    };
    g_auto(DroverSession) session = {0};
    DroverExitCode code;
    if (!drover_session_open(&session, command, flags, argc, argv, 2, 2, &code))
        return code;
    if (strcmp(session.argv[0], "live") != 0)
        return drover_session_usage(&session, "'%s' is no kind of failover: write drover failover live JOB",
                                    session.argv[0]);
    g_autoptr(GError) error = NULL;
    if (wait) {
        drover_drain_install();
        if (!remember(&session, session.argv[1], &error))
            return drover_session_fail(&session, error);
    }
    const char *none = protobuf_c_empty_string;
    Drover__V1__TargetSpec target = DROVER__V1__TARGET_SPEC__INIT;
    target.zone = (char *)(zone ? zone : none);
    target.service_offering = (char *)(offering ? offering : none);
    target.template_id = (char *)(template_id ? template_id : none);
    target.os_type = (char *)(os_type ? os_type : none);
    target.boot_type = (char *)(boot_type ? boot_type : none);
    target.boot_mode = (char *)(boot_mode ? boot_mode : none);
    target.network_ids = networks;
    target.n_network_ids = networks ? g_strv_length(networks) : 0;
    bool overrides = zone || offering || template_id || os_type || networks;
    Drover__V1__FailoverJob failover = DROVER__V1__FAILOVER_JOB__INIT;
    failover.kind = DROVER__V1__FAILOVER_KIND__FAILOVER_KIND_LIVE;
    failover.target = overrides ? &target : NULL;
    Drover__V1__JobCommand message = DROVER__V1__JOB_COMMAND__INIT;
    message.command_case = DROVER__V1__JOB_COMMAND__COMMAND_FAILOVER;
    message.failover = &failover;
    code = drover_send_for_job(&session, session.argv[1], &message, "failover asked for");
    if (code != DROVER_EXIT_OK || !wait)
        return code;
    const char *const ids[] = {session.argv[1], NULL};
    code = drover_watch(&session, ids,
                        &(DroverWatchOptions){.appear_ms = 15000, .finished = has_ended, .succeeded = has_succeeded});
    if (code == DROVER_EXIT_JOB_FAILED)
        g_printerr("drover: the failover of %s failed or was called off; \"drover log %s\" says why\n", session.argv[1],
                   session.argv[1]);
    g_free(before.started_at);
    return code;
}

const DroverCommand drover_command_failover = {
    .name = "failover",
    .synopsis = "live JOB",
    .summary = "start the target VM from a job's volumes",
    .description = "Hands the job's volumes over to the VM at the target (deployed now if it is missing), root disk first,\n"
                   "and starts it. Whether they fit there is asked before anything is touched: what does not is called off.",
    .run = run,
};
