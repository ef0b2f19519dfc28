/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests and answers without the transport: who calls, may they, what do they want. server.h carries them.
 * Any thread; handling may block on CloudStack, Kafka and ?wait=.
 */
#ifndef DROVER_VOLUME_AGENT_REST_API_H
#define DROVER_VOLUME_AGENT_REST_API_H

#include <stdatomic.h>

#include "lib/base/ids.h"
#include "lib/kafka/kafka.h"
#include "volume-agent/operations/context.h"
#include "volume-agent/rest/metrics.h"
#include "volume-agent/rest/rate.h"
#include "volume-agent/rest/request.h"
#include "volume-agent/rest/view.h"

/* How far the intake has come, told by whoever reads the agent's log. */
typedef struct {
    _Atomic int64_t lag;           /* records that are ahead */
    _Atomic int64_t current_at_ms; /* boot clock: when there was nothing ahead; 0: never */
    _Atomic int64_t error_at_ms;   /* boot clock: when reading failed last; 0: never */
} DroverIntakeProgress;

/* There was nothing ahead a moment ago; it looks several times a second. */
#define DROVER_INTAKE_CURRENT_MS 3000
static inline bool drover_rest_intake_is_current(const DroverIntakeProgress *intake)
{
    int64_t current_at_ms = atomic_load(&intake->current_at_ms);
    return current_at_ms != 0 && drover_boottime_ms() - current_at_ms < DROVER_INTAKE_CURRENT_MS;
}

/* What requests are answered from. Nothing is owned. */
typedef struct {
    const DroverOpContext *context;
    DroverProducer *producer;
    DroverNbdServer *server;
    const DroverIntakeProgress *intake;
    bool (*job_is_stopped)(void *data, const char *job_id);
    void *job_data;
    unsigned device_slots;
    DroverRestView *view;
    DroverRestMetrics *metrics;
    DroverRestKeyring *keyring;
    DroverRestRate *rate; /* guarded by rate_lock */
    GMutex rate_lock;
    unsigned most_waiting; /* requests that may wait at once: the others must find a connection */
    atomic_uint waiting;
} DroverRestApi;

typedef struct {
    const char *method;
    const char *path;          /* not decoded */
    char **query;              /* name, value, name, value, …, NULL; not decoded */
    const char *authorization; /* header; NULL: none */
    const char *content_type;
    const char *remote; /* address of the caller */
    const char *request_id;
    const char *body;
    size_t body_len;
    /* filled in by drover_rest_admit */
    const DroverRestRoute *route;
    char *parameter;
    char *caller; /* name of the token; NULL: nobody known */
    DroverRestRole role;
    char *allow; /* methods, with 405 */
} DroverRestCall;
void drover_rest_call_clear(DroverRestCall *call);

/* From the head of a request alone: rate limit, route, token, role, query. False with *PROBLEM. */
bool drover_rest_admit(DroverRestApi *api, DroverRestCall *call, DroverRestProblem *problem);
/* An admitted request with its body. False with *PROBLEM. */
bool drover_rest_handle(DroverRestApi *api, const DroverRestCall *call, DroverRestReply *reply,
                        DroverRestProblem *problem);

/* ---- parts of it: the query, decoded and checked by drover_rest_admit */

/* The value of NAME, decoded, newly allocated; "" when it is not there. */
char *drover_rest_query(const DroverRestCall *call, const char *name);
/* ?wait=: milliseconds, 0 when it is not there. */
bool drover_rest_wait_of(const DroverRestCall *call, int64_t *wait_ms, DroverRestProblem *problem);
/* Waits for the end of an operation, up to WAIT_MS; not at all when too many wait already. */
void drover_rest_wait(DroverRestApi *api, const char *operation_id, int64_t wait_ms);
/* An operation record of the view: 202, or 200 when it has ended. */
bool drover_rest_reply_operation(DroverRestApi *api, const char *operation_id, DroverRestReply *reply,
                                 DroverRestProblem *problem);

/* queries.c: everything that changes nothing. */
bool drover_rest_answer_query(DroverRestApi *api, const DroverRestCall *call, DroverRestReply *reply,
                              DroverRestProblem *problem);
/* preflight.c: findings about what BODY asks for. */
bool drover_rest_preflight(DroverRestApi *api, const json_t *body, DroverRestReply *reply, DroverRestProblem *problem);
/* changes.c: everything that becomes an operation. */
bool drover_rest_submit_change(DroverRestApi *api, const DroverRestCall *call, const json_t *body,
                               DroverRestReply *reply, DroverRestProblem *problem);
/* scrape.c: all metrics, newly allocated. */
char *drover_rest_scrape(DroverRestApi *api);

/* CloudStack's rows of a list command; a new array. Unknown ids give an empty one. NULL with *PROBLEM. */
json_t *drover_rest_cloud_list(DroverRestApi *api, const char *command, const char *member,
                               const char *const *parameters, DroverRestProblem *problem);
/* CloudStack's row of a volume, a new reference. NULL with *PROBLEM: 404 when it is gone. */
json_t *drover_rest_cloud_volume(DroverRestApi *api, const char *volume_id, DroverRestProblem *problem);
/* There is such a VM. False with *PROBLEM. */
bool drover_rest_cloud_has_vm(DroverRestApi *api, const char *vm_id, DroverRestProblem *problem);

#endif
