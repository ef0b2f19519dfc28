/* SPDX-License-Identifier: Apache-2.0 */
/* Asking a volume agent for an operation: through its log, like the leader does, with the result read from its journal. */
#ifndef DROVER_CLI_AGENT_CALL_H
#define DROVER_CLI_AGENT_CALL_H

#include "cli/session.h"
#include "drover/v1/operation.pb-c.h"

/* The agent that WANTED names, or the only one in [fleet] agents when that is NULL or "". PERMANENT otherwise; owned by the
 * configuration. */
const char *drover_agent_choose(const DroverSession *session, const char *wanted, GError **error);

/*
 * Sends OPERATION (its oneof set by the caller; ids are made here) and waits up to TIMEOUT_MS for its end. The journal's last
 * word about it, DONE or FAILED, to be freed with drover__v1__journal_record__free_unpacked; NULL with an error, RETRYABLE
 * DRV-AGENT-SILENT when the agent did not answer in time. Opens Kafka if the session has not.
 */
Drover__V1__JournalRecord *drover_agent_call(DroverSession *session, const char *agent, Drover__V1__VolumeOperation *operation,
                                             int64_t timeout_ms, GError **error);

#endif
