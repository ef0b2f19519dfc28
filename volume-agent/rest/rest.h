/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's REST API, whole: /api/v1 as openapi.yaml describes it. Requests that change something become
 * operations in the agent's log, beside the scheduler's; all others are answered from the journal, CloudStack
 * and the machine.
 */
#ifndef DROVER_VOLUME_AGENT_REST_REST_H
#define DROVER_VOLUME_AGENT_REST_REST_H

#include "volume-agent/rest/api.h"
#include "volume-agent/rest/settings.h"

typedef struct DroverRest DroverRest;

/* What it works with; nothing is owned, all must outlive it. */
typedef struct {
    const DroverRestSettings *settings;
    const DroverOpContext *context;
    DroverProducer *producer;
    DroverNbdServer *server;
    const DroverIntakeProgress *intake;
    bool (*job_is_stopped)(void *data, const char *job_id);
    void *job_data;
} DroverRestParts;

/*
 * Follows the journal and CloudStack's answers from here on: before the first operation is executed.
 * OPERATIONS is what the journal held. PERMANENT when the token file cannot be used. NULL without an error
 * when the API is off.
 */
DroverRest *drover_rest_new(const DroverRestParts *parts, const GPtrArray *operations, GError **error);
/* Answers requests from here on. NULL: nothing to do. */
bool drover_rest_start(DroverRest *rest, GError **error);
/* Answers what is being handled, then no more. To be called before the parts end. NULL is allowed. */
void drover_rest_free(DroverRest *rest);

/* For the metrics: a comparison found a difference. REST may be NULL. Any thread. */
void drover_rest_count_difference(DroverRest *rest, const char *kind, bool repaired);

#endif
