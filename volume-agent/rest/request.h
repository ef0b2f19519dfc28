/* SPDX-License-Identifier: Apache-2.0 */
/* From a changing request to the operation that the agent's log gets. Pure. */
#ifndef DROVER_VOLUME_AGENT_REST_REQUEST_H
#define DROVER_VOLUME_AGENT_REST_REQUEST_H

#include "drover/v1/operation.pb-c.h"
#include "volume-agent/rest/fields.h"
#include "volume-agent/rest/route.h"

typedef struct {
    const DroverRestRoute *route;
    const char *parameter;    /* of the path; NULL: it has none */
    const char *operation_id; /* of the client or made up, valid */
    const char *agent;
    const char *caller; /* name of the token */
    int64_t now_ms;
    const json_t *body;    /* as drover_rest_parse_body gave it */
    const char *volume_id; /* of the query; "" */
    const char *vm_id;
    uint64_t next_generation; /* for an export whose request names none */
} DroverRestRequest;

/* What the body of a changing route may hold; empty for those that take none. */
const DroverRestField *drover_rest_fields_of(DroverRestRouteId route);

/* The operation; to be freed with drover__v1__volume_operation__free_unpacked. NULL with *PROBLEM 400. */
Drover__V1__VolumeOperation *drover_rest_operation_of(const DroverRestRequest *request,
                                                      DroverRestProblem *problem);

/* Asked for the same thing: apart from when and by whom. */
bool drover_rest_same_operation(const Drover__V1__VolumeOperation *a, const Drover__V1__VolumeOperation *b);

#endif
