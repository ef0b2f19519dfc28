/* SPDX-License-Identifier: Apache-2.0 */
/* One run of drover-copy: both ends opened, copied, read back, reported. */
#ifndef DROVER_WORKER_DROVER_COPY_JOB_H
#define DROVER_WORKER_DROVER_COPY_JOB_H

#include "worker/copy/copy.h"
#include "worker/drover-copy/report.h"

typedef struct {
    const char *source, *target;               /* NBD URIs or paths */
    const char *source_format, *target_format; /* of files */
    const char *token_file;                    /* "<generation>.<token>" for the target's export; "": none */
    const char *resume_file;                   /* "": none */
    const char *report_file;                   /* "": none; "-": standard output */
    const char *ranges_file;                   /* "": the whole disk */
    const char *rate_file;                     /* followed while the copy runs; "": none */
    bool rate_given;                           /* params' rate counts until the rate file says one */
    DroverCopyParams params; /* endpoints, done cells and callbacks are filled in by the job */
    DroverTlsSettings tls;   /* for each end whose URI has TLS */
    bool verify;
    DroverShow show;
} DroverJob;

typedef enum {
    DROVER_EXIT_OK = 0,
    DROVER_EXIT_USAGE = 1,
    DROVER_EXIT_PERMANENT = 2,
    DROVER_EXIT_RETRYABLE = 3,
    DROVER_EXIT_DIFFERENT = 4,
    DROVER_EXIT_STOPPED = 5,
} DroverExit;

/* TLS is configured, and neither end would use it. */
bool drover_job_forgets_tls(const DroverJob *job);

/* Blocks until done, or until draining is requested (lib/base/drain.h). Errors are logged. */
DroverExit drover_job_run(DroverJob *job);

#endif
