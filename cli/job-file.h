/* SPDX-License-Identifier: Apache-2.0 */
/* A job written as YAML; docs/examples/job.yaml shows every key. */
#ifndef DROVER_CLI_JOB_FILE_H
#define DROVER_CLI_JOB_FILE_H

#include <glib.h>
#include <stdbool.h>

#include "cli/request.h"

/*
 * Reads TEXT, which came from the file NAME, into *REQUEST (initialised by the caller) and completes it
 * (drover_request_complete). PERMANENT with file, line, key and what is accepted: "job.yaml, line 7, disks[0].size: …".
 * Pure but for the random job id.
 */
bool drover_job_file_parse(const char *name, const char *text, DroverRequest *request, GError **error);

#endif
