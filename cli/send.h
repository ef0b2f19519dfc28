/* SPDX-License-Identifier: Apache-2.0 */
/* Commands to the leader: one record on drover.jobs, acknowledged by Kafka before anything is said to the user. */
#ifndef DROVER_CLI_SEND_H
#define DROVER_CLI_SEND_H

#include <stdbool.h>

#include "cli/session.h"
#include "drover/v1/job.pb-c.h"

/*
 * Publishes COMMAND (job_id and its oneof set by the caller; the rest is filled in) and waits for the acknowledgement of
 * all in-sync replicas, up to 15 s. Opens Kafka if the session has not.
 */
bool drover_send(DroverSession *session, Drover__V1__JobCommand *command, GError **error);

/* For commands that act on a job: checks the form of JOB_ID; sends; says so on standard output. */
DroverExitCode drover_send_for_job(DroverSession *session, const char *job_id, Drover__V1__JobCommand *command,
                                   const char *said);

#endif
