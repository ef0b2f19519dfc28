/* SPDX-License-Identifier: Apache-2.0 */
/* Records of the agent on drover.audit: for people, about who did what. */
#ifndef DROVER_VOLUME_AGENT_RECONCILE_AUDIT_H
#define DROVER_VOLUME_AGENT_RECONCILE_AUDIT_H

#include "lib/kafka/kafka.h"

typedef struct {
    const char *name;
    const char *value; /* NULL or "": left out */
} DroverAuditField;

/* FIELDS end with a NULL name. Any thread; does not wait. What cannot be sent is logged. */
void drover_agent_audit(DroverProducer *producer, const char *agent, const char *job_id, const char *level, const char *event,
                        const char *message, const DroverAuditField *fields);

#endif
