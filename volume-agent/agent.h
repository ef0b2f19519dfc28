/* SPDX-License-Identifier: Apache-2.0 */
/* The process: its options, and what its parts share. */
#ifndef DROVER_VOLUME_AGENT_AGENT_H
#define DROVER_VOLUME_AGENT_AGENT_H

#include "lib/kafka/kafka.h"
#include "volume-agent/executor.h"
#include "volume-agent/export/book.h"
#include "volume-agent/rest/rest.h"
#include "volume-agent/verify/verifier.h"

extern const DroverOption drover_agent_options[];

struct DroverStopped; /* volume-agent/stopped.h */

typedef struct {
    const DroverConfig *config;
    const DroverKafka *kafka;
    const char *name;
    char *instance_id;
    char *events_topic; /* drover.events.<agent> */
    DroverProducer *producer; /* events, heartbeats, dead letters */
    DroverOpContext context;
    DroverNbdServer *server;
    DroverExportBook *book;
    DroverExecutor *executor;
    DroverVerifier *verifier;
    struct DroverStopped *stopped;
    DroverIntakeProgress intake;
    DroverRestSettings rest_settings;
    DroverRest *rest; /* NULL: off */
} DroverAgent;

/* Reads drover.tasks.<agent> from NEXT_OFFSET (-1: the beginning) until the process drains: operations are journalled with
 * the offset in one transaction and handed to the executor, read-back requests to the verifier. */
bool drover_agent_intake(DroverAgent *agent, int64_t next_offset, GError **error);

/* The verifier's view of the agent, and its answers as events on drover.events.<agent>. */
DroverVerifyCallbacks drover_agent_verify_callbacks(DroverAgent *agent);
/* For DroverRestParts.job_is_stopped. */
bool drover_agent_job_is_stopped(void *agent, const char *job_id);
/* For DroverOpContext.release_device. */
void drover_agent_release_device(void *agent, const char *volume_id);

/* Heartbeats on drover.fleet, at every interval and soon after a change, from a thread of their own, until stopped; the last
 * one says so. */
typedef struct DroverAgentHeart DroverAgentHeart;
DroverAgentHeart *drover_agent_heart_start(DroverAgent *agent);
void drover_agent_heart_stop(DroverAgentHeart *heart);

#endif
