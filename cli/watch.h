/* SPDX-License-Identifier: Apache-2.0 */
/* Follows jobs in the Redis view until they have ended. */
#ifndef DROVER_CLI_WATCH_H
#define DROVER_CLI_WATCH_H

#include <stdbool.h>

#include "cli/session.h"
#include "cli/view.h"

typedef struct {
    bool quiet;       /* print the outcome only */
    int appear_ms;    /* how long a job may take to appear in the view; below 0: any time */
    /* When a job is done with; NULL: when it has ended. */
    bool (*finished)(const DroverJobView *view);
    /* Whether that is what was wanted; NULL: the job is completed. */
    bool (*succeeded)(const DroverJobView *view);
} DroverWatchOptions;

/*
 * JOB_IDS ends with NULL. On a terminal bars that move, else a line per change. A Redis that goes away is waited for.
 * Returns OK when all jobs succeeded, JOB_FAILED when one did not, NOT_FOUND when one did not appear, UNREACHABLE when
 * Redis cannot be reached at the beginning, INTERRUPTED at Ctrl-C (the jobs go on).
 */
DroverExitCode drover_watch(DroverSession *session, const char *const *job_ids, const DroverWatchOptions *options);

#endif
