/* SPDX-License-Identifier: Apache-2.0 */
#include "core/job/phase.h"

static const char *const names[DROVER_PHASE_LAST + 1] = {
    [DROVER_PHASE_SUBMITTED] = "submitted",
    [DROVER_PHASE_PREFLIGHT] = "preflight",
    [DROVER_PHASE_PREPARE] = "prepare",
    [DROVER_PHASE_COPYING] = "copying",
    [DROVER_PHASE_REPLICATING] = "replicating",
    [DROVER_PHASE_CUTOVER] = "cutover",
    [DROVER_PHASE_FINAL_ROUND] = "final round",
    [DROVER_PHASE_CONVERTING] = "converting",
    [DROVER_PHASE_STARTING] = "starting",
    [DROVER_PHASE_VALIDATING] = "validating",
    [DROVER_PHASE_COMMIT_WINDOW] = "commit window",
    [DROVER_PHASE_COMPLETED] = "completed",
    [DROVER_PHASE_FAILING] = "failing",
    [DROVER_PHASE_FAILED] = "failed",
    [DROVER_PHASE_CANCELLING] = "cancelling",
    [DROVER_PHASE_CANCELLED] = "cancelled",
    [DROVER_PHASE_ROLLING_BACK] = "rolling back",
    [DROVER_PHASE_ROLLED_BACK] = "rolled-back",
    [DROVER_PHASE_PARKING] = "parking",
    [DROVER_PHASE_CLEANING] = "cleaning",
};

const char *drover_phase_name(DroverPhase phase)
{
    return phase >= DROVER_PHASE_SUBMITTED && phase <= DROVER_PHASE_LAST ? names[phase] : "unknown";
}

bool drover_phase_is_ended(DroverPhase phase)
{
    return phase == DROVER_PHASE_COMPLETED || phase == DROVER_PHASE_FAILED ||
           phase == DROVER_PHASE_CANCELLED || phase == DROVER_PHASE_ROLLED_BACK;
}

bool drover_phase_is_undoing(DroverPhase phase)
{
    return phase == DROVER_PHASE_FAILING || phase == DROVER_PHASE_CANCELLING ||
           phase == DROVER_PHASE_CLEANING;
}

bool drover_phase_may_follow(DroverPhase from, DroverPhase to)
{
    if (to == DROVER_PHASE_FAILING || to == DROVER_PHASE_CANCELLING)
        return !drover_phase_is_ended(from) && from != DROVER_PHASE_CLEANING &&
               from != DROVER_PHASE_CANCELLING;
    switch (from) {
    case DROVER_PHASE_SUBMITTED:
        return to == DROVER_PHASE_PREFLIGHT;
    case DROVER_PHASE_PREFLIGHT:
        return to == DROVER_PHASE_PREPARE;
    case DROVER_PHASE_PREPARE:
        return to == DROVER_PHASE_COPYING;
    case DROVER_PHASE_COPYING:
    case DROVER_PHASE_PARKING:
        return to == DROVER_PHASE_CUTOVER || to == DROVER_PHASE_PARKING || to == DROVER_PHASE_COMPLETED ||
               to == DROVER_PHASE_REPLICATING;
    case DROVER_PHASE_REPLICATING:
        return to == DROVER_PHASE_PREFLIGHT || to == DROVER_PHASE_PARKING;
    case DROVER_PHASE_CUTOVER: /* or called off before it began */
        return to == DROVER_PHASE_STARTING || to == DROVER_PHASE_PARKING || to == DROVER_PHASE_REPLICATING;
    case DROVER_PHASE_STARTING:
        return to == DROVER_PHASE_COMPLETED;
    case DROVER_PHASE_FAILING:
        return to == DROVER_PHASE_FAILED;
    case DROVER_PHASE_CANCELLING:
        return to == DROVER_PHASE_CANCELLED;
    case DROVER_PHASE_CLEANING:
        return drover_phase_is_ended(to);
    case DROVER_PHASE_COMPLETED:
    case DROVER_PHASE_FAILED:
        return to == DROVER_PHASE_CUTOVER || to == DROVER_PHASE_CLEANING || to == DROVER_PHASE_PREFLIGHT;
    case DROVER_PHASE_CANCELLED:
    case DROVER_PHASE_ROLLED_BACK:
        return to == DROVER_PHASE_CLEANING;
    default:
        return false;
    }
}
