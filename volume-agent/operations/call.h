/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How an operation changes something at CloudStack: the intent is journalled, then the call is signed and sent, then its
 * async job is journalled, then waited for. Every operation looks before it acts, so that running it again after a crash,
 * or after an answer that never came, repeats nothing: drover_op_settle first waits out whatever may still be under way.
 */
#ifndef DROVER_VOLUME_AGENT_OPERATIONS_CALL_H
#define DROVER_VOLUME_AGENT_OPERATIONS_CALL_H

#include "volume-agent/operations/context.h"

/* Journals OPERATION as it is now. FATAL when the journal is lost. */
bool drover_op_journal(const DroverOpContext *context, DroverOperation *operation, GError **error);

/*
 * One changing call. PARAMETERS as for drover_cloudstack_call. *RESULT (may be NULL) gets the answer, or the job's result, a
 * new reference. Errors: RETRYABLE means "settle and look again", PERMANENT that CloudStack refuses.
 */
bool drover_op_call(const DroverOpContext *context, DroverOperation *operation, const char *command,
                    const char *const *parameters, json_t **result, GError **error);

/* Waits until no call of this operation can have an effect any more that is not visible yet: for the end of its async job, or,
 * where none is known, until its effect can be seen or its signature has died. RETRYABLE when CloudStack cannot be asked. */
bool drover_op_settle(const DroverOpContext *context, DroverOperation *operation, GError **error);
/* No call is under way of which the end is unknown. */
bool drover_op_is_settled(const DroverOperation *operation);

/* Parts of the two above. Waits for the async job of OPERATION and clears the intent when it has ended, however it did. A lost
 * job is a RETRYABLE error: look again. So is one that takes too long; then the intent stays. */
bool drover_op_await_job(const DroverOpContext *context, DroverOperation *operation, json_t **result, GError **error);
/* The call is over, for good or bad: nothing of it is under way. */
void drover_op_clear_intent(DroverOperation *operation);

/*
 * Before OPERATION looks at, and then changes, a VM or volume that it was not asked about by name: nobody else works on it until
 * OPERATION has ended. False with RETRYABLE when somebody does: OPERATION must return at once, and is run again when its turn
 * has come. So ask only when nothing of it is under way.
 */
bool drover_op_claim(const DroverOpContext *context, DroverOperation *operation, const char *id, GError **error);

/* Sleeps; false with RETRYABLE when the process drains. */
bool drover_op_sleep(const DroverOpContext *context, int64_t ms, GError **error);

#endif
