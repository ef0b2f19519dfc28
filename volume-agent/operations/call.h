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

/* Waits until no call of this operation can have an effect any more that is not visible yet. */
bool drover_op_settle(const DroverOpContext *context, DroverOperation *operation, GError **error);

/* Sleeps; false with RETRYABLE when the process drains. */
bool drover_op_sleep(const DroverOpContext *context, int64_t ms, GError **error);

#endif
