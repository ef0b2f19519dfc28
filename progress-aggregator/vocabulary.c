/* SPDX-License-Identifier: Apache-2.0 */
#include "progress-aggregator/vocabulary.h"

#include <glib.h>

typedef struct {
    Drover__V1__JobPhase phase;
    const char *status;
    const char *operation;
    const char *vma_phase; /* NULL: depends on how far the job came */
    bool end;
} Words;

static const Words words[] = {
    {DROVER__V1__JOB_PHASE__JOB_PHASE_SUBMITTED, "queued", "submitted", "Discover", false},
    {DROVER__V1__JOB_PHASE__JOB_PHASE_PREFLIGHT, "running", "preflight", "Discover", false},
    {DROVER__V1__JOB_PHASE__JOB_PHASE_PREPARE, "running", "prepare", "Discover", false},
    {DROVER__V1__JOB_PHASE__JOB_PHASE_COPYING, "running", "copying", "Transfer", false},
    {DROVER__V1__JOB_PHASE__JOB_PHASE_REPLICATING, "replicating", "replicating", "Transfer", false},
    {DROVER__V1__JOB_PHASE__JOB_PHASE_FINAL_ROUND, "running", "final round", "Transfer", false},
    {DROVER__V1__JOB_PHASE__JOB_PHASE_PARKING, "running", "parking", "Complete", false},
    {DROVER__V1__JOB_PHASE__JOB_PHASE_CUTOVER, "running", "cutover", "Complete", false},
    {DROVER__V1__JOB_PHASE__JOB_PHASE_CONVERTING, "running", "converting", "Complete", false},
    {DROVER__V1__JOB_PHASE__JOB_PHASE_STARTING, "running", "starting", "Complete", false},
    {DROVER__V1__JOB_PHASE__JOB_PHASE_VALIDATING, "running", "validating", "Complete", false},
    {DROVER__V1__JOB_PHASE__JOB_PHASE_COMMIT_WINDOW, "running", "commit window", "Complete", false},
    {DROVER__V1__JOB_PHASE__JOB_PHASE_COMPLETED, "completed", "Completed", "Complete", true},
    {DROVER__V1__JOB_PHASE__JOB_PHASE_FAILING, "running", "failing", NULL, false},
    {DROVER__V1__JOB_PHASE__JOB_PHASE_FAILED, "failed", "Failed", NULL, true},
    {DROVER__V1__JOB_PHASE__JOB_PHASE_CANCELLING, "running", "cancelling", NULL, false},
    {DROVER__V1__JOB_PHASE__JOB_PHASE_CANCELLED, "cancelled", "Failed", NULL, true},
    {DROVER__V1__JOB_PHASE__JOB_PHASE_ROLLING_BACK, "running", "rolling back", "Complete", false},
    {DROVER__V1__JOB_PHASE__JOB_PHASE_ROLLED_BACK, "rolled-back", "Failed", "Complete", true},
    {DROVER__V1__JOB_PHASE__JOB_PHASE_CLEANING, "running", "cleaning", NULL, false},
};

static const Words *find(Drover__V1__JobPhase phase)
{
    for (guint i = 0; i < G_N_ELEMENTS(words); i++)
        if (words[i].phase == phase)
            return &words[i];
    return NULL;
}

const char *drover_word_status(Drover__V1__JobPhase phase, bool paused)
{
    const Words *w = find(phase);
    if (!w)
        return NULL;
    return paused && !w->end ? "paused" : w->status;
}

const char *drover_word_operation(Drover__V1__JobPhase phase)
{
    const Words *w = find(phase);
    return w ? w->operation : NULL;
}

const char *drover_word_phase(Drover__V1__JobPhase phase, bool copy_started)
{
    const Words *w = find(phase);
    if (w && w->vma_phase)
        return w->vma_phase;
    return copy_started ? "Transfer" : "Discover";
}

bool drover_phase_is_end(Drover__V1__JobPhase phase)
{
    const Words *w = find(phase);
    return w && w->end;
}

const char *drover_word_sync_type(Drover__V1__SyncType type)
{
    /* A deep verify moves differences only, like any later round. */
    return type == DROVER__V1__SYNC_TYPE__SYNC_TYPE_INCREMENTAL || type == DROVER__V1__SYNC_TYPE__SYNC_TYPE_DEEP_VERIFY
               ? "incremental"
               : "full";
}

const char *drover_word_replication_type(Drover__V1__SyncType type)
{
    return type == DROVER__V1__SYNC_TYPE__SYNC_TYPE_INCREMENTAL || type == DROVER__V1__SYNC_TYPE__SYNC_TYPE_DEEP_VERIFY
               ? "incremental"
               : "initial";
}

const char *drover_word_stall(Drover__V1__StallCause cause)
{
    static const char *const names[] = {"", "none", "source", "target", "throttle", "reconnect", "nfc"};
    return (guint)cause < G_N_ELEMENTS(names) ? names[cause] : "";
}

const char *drover_word_role(Drover__V1__Role role)
{
    static const char *const names[] = {NULL, "scheduler", "worker", "volume-agent", "progress-aggregator"};
    return (guint)role < G_N_ELEMENTS(names) ? names[role] : NULL;
}
