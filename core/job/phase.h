/* SPDX-License-Identifier: Apache-2.0 */
/* The phases of a job. Values equal drover.v1.JobPhase. Pure. */
#ifndef DROVER_CORE_JOB_PHASE_H
#define DROVER_CORE_JOB_PHASE_H

#include <stdbool.h>

typedef enum {
    DROVER_PHASE_SUBMITTED = 1,
    DROVER_PHASE_PREFLIGHT = 2,
    DROVER_PHASE_PREPARE = 3,
    DROVER_PHASE_COPYING = 4,
    DROVER_PHASE_REPLICATING = 5,
    DROVER_PHASE_CUTOVER = 6,
    DROVER_PHASE_FINAL_ROUND = 7,
    DROVER_PHASE_CONVERTING = 8,
    DROVER_PHASE_STARTING = 9,
    DROVER_PHASE_VALIDATING = 10,
    DROVER_PHASE_COMMIT_WINDOW = 11,
    DROVER_PHASE_COMPLETED = 12,
    DROVER_PHASE_FAILING = 13,
    DROVER_PHASE_FAILED = 14,
    DROVER_PHASE_CANCELLING = 15,
    DROVER_PHASE_CANCELLED = 16,
    DROVER_PHASE_ROLLING_BACK = 17,
    DROVER_PHASE_ROLLED_BACK = 18,
    DROVER_PHASE_PARKING = 19,
    DROVER_PHASE_CLEANING = 20,
} DroverPhase;
#define DROVER_PHASE_LAST DROVER_PHASE_CLEANING

/* "submitted", "preflight", …; "unknown" for any other value. */
const char *drover_phase_name(DroverPhase phase);

/* Nothing happens any more unless somebody asks: completed, failed, cancelled, rolled-back. */
bool drover_phase_is_ended(DroverPhase phase);

/* The ledger is being undone: failing, cancelling, cleaning. */
bool drover_phase_is_undoing(DroverPhase phase);

/* Whether the machine may go from one phase to another in one step. */
bool drover_phase_may_follow(DroverPhase from, DroverPhase to);

#endif
