/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which checkpointed cells of a disk have been sent to the agent for read-back, in which batches, and which
 * wait for it. Verification is idempotent: whatever is in doubt is asked again. Pure.
 */
#ifndef DROVER_CORE_TASK_VERIFY_H
#define DROVER_CORE_TASK_VERIFY_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/at.h"
#include "core/task/cells.h"

typedef struct {
    uint64_t sequence;
    GArray *cells; /* uint64_t, ascending order of arrival */
    int64_t sent_lease_ms;
    char *agent_instance;
} DroverVerifyBatch;

typedef struct DroverVerify {
    GArray *pending; /* uint64_t */
    int64_t pending_since_ms;
    int64_t not_before_ms; /* after an answer with an error */
    uint32_t failures;     /* answers with an error in a row */
    GPtrArray *batches;    /* DroverVerifyBatch, outstanding */
} DroverVerify;

DroverVerify *drover_verify_new(void);
void drover_verify_free(DroverVerify *verify);

void drover_verify_add(DroverVerify *verify, uint64_t cell, int64_t lease_ms);

/*
 * The next batch to send, or NULL when it is not worth it yet: LIMITS->verify_cells cells wait, or the oldest
 * waits for LIMITS->verify_wait_ms, or FLUSH (nothing more will come) is set. Cells that need no read-back
 * any more are dropped. The batch counts as sent to AGENT_INSTANCE under SEQUENCE; owned by VERIFY.
 */
const DroverVerifyBatch *drover_verify_next(DroverVerify *verify, const DroverCells *cells, bool flush,
                                            const DroverLimits *limits, const DroverAt *at,
                                            const char *agent_instance, uint64_t sequence);

/* Takes the batch SEQUENCE off the outstanding ones; false: not outstanding (answered, or asked again
 * meanwhile). UNANSWERED cells (of the batch, in neither list) go back to the pending ones. */
bool drover_verify_answer(DroverVerify *verify, uint64_t sequence, const uint64_t *verified,
                          size_t n_verified, const uint64_t *mismatched, size_t n_mismatched,
                          int64_t lease_ms);

/* Batches that were sent to another instance or too long ago go back to the pending cells. Returns how many.
 */
unsigned drover_verify_requeue(DroverVerify *verify, const char *agent_instance, const DroverLimits *limits,
                               const DroverAt *at);

#endif
