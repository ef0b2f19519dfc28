/* SPDX-License-Identifier: Apache-2.0 */
/* Exit codes of `drover`, for scripts. The table in cli/README.md is for users. */
#ifndef DROVER_CLI_EXIT_CODE_H
#define DROVER_CLI_EXIT_CODE_H

typedef enum {
    DROVER_EXIT_OK = 0,
    DROVER_EXIT_JOB_FAILED = 1,  /* the job that was waited for failed, was cancelled or rolled back */
    DROVER_EXIT_USAGE = 2,       /* options, arguments, a job file: nothing was done */
    DROVER_EXIT_UNREACHABLE = 3, /* Kafka, Redis or vCenter does not answer; try again later */
    DROVER_EXIT_NOT_FOUND = 4,   /* no such job in the view */
    DROVER_EXIT_REFUSED = 5,     /* it answers, and says no */
    DROVER_EXIT_INTERRUPTED = 130,
} DroverExitCode;

#endif
