/* SPDX-License-Identifier: Apache-2.0 */
/* The table of routes: which method on which path does what, who may, and what it takes. openapi.yaml says
 * the same; a test holds the two against each other. Pure. */
#ifndef DROVER_VOLUME_AGENT_REST_ROUTE_H
#define DROVER_VOLUME_AGENT_REST_ROUTE_H

#include "volume-agent/rest/access.h"
#include "volume-agent/rest/reply.h"

#define DROVER_REST_PREFIX "/api/v1"

typedef enum {
    DROVER_ROUTE_HEALTH,
    DROVER_ROUTE_OPENAPI,
    DROVER_ROUTE_METRICS,
    DROVER_ROUTE_CREATE_VOLUME,
    DROVER_ROUTE_GET_VOLUME,
    DROVER_ROUTE_DELETE_VOLUME,
    DROVER_ROUTE_ATTACH_VOLUME,
    DROVER_ROUTE_ATTACH_ROOT,
    DROVER_ROUTE_DETACH_VOLUME,
    DROVER_ROUTE_RESIZE_VOLUME,
    DROVER_ROUTE_GET_DEVICE,
    DROVER_ROUTE_VOLUME_OF_DEVICE,
    DROVER_ROUTE_VOLUMES_OF_VM,
    DROVER_ROUTE_LIST_OPERATIONS,
    DROVER_ROUTE_GET_OPERATION,
    DROVER_ROUTE_CLEANUP_TEST_FAILOVER,
    DROVER_ROUTE_TRACK_SNAPSHOT,
    DROVER_ROUTE_LIST_SNAPSHOTS,
    DROVER_ROUTE_CLEAR_SNAPSHOTS,
    DROVER_ROUTE_GET_SNAPSHOT,
    DROVER_ROUTE_UPDATE_SNAPSHOT,
    DROVER_ROUTE_CLEAR_SNAPSHOT,
    DROVER_ROUTE_CREATE_SNAPSHOT,
    DROVER_ROUTE_REVERT_SNAPSHOT,
    DROVER_ROUTE_DELETE_SNAPSHOT,
    DROVER_ROUTE_SNAPSHOTS_OF_VOLUME,
    DROVER_ROUTE_CREATE_EXPORT,
    DROVER_ROUTE_LIST_EXPORTS,
    DROVER_ROUTE_CLEAN_EXPORTS,
    DROVER_ROUTE_GET_EXPORT,
    DROVER_ROUTE_DELETE_EXPORT,
    DROVER_ROUTE_VALIDATE_EXPORT,
    DROVER_ROUTE_FORCE_SYNC,
    DROVER_ROUTE_PREFLIGHT,
    DROVER_N_ROUTES
} DroverRestRouteId;

typedef struct {
    DroverRestRouteId id;
    const char *method;
    const char *path; /* behind the prefix; one {parameter} at most */
    DroverRestRole role;
    bool changes; /* becomes an operation in the agent's log: takes ?operation_id= and ?wait=, answers 202 */
    const char *query; /* names of further query parameters, separated by blanks */
} DroverRestRoute;

extern const DroverRestRoute drover_rest_routes[DROVER_N_ROUTES];

/*
 * The route of METHOD and PATH, which begins with the prefix. *PARAMETER gets the value of its {parameter},
 * newly allocated, or NULL. NULL with *PROBLEM 400 (a path that cannot be read, an id of the wrong shape),
 * 404, or 405; then *ALLOW lists the methods, newly allocated.
 */
const DroverRestRoute *drover_rest_route(const char *method, const char *path, char **parameter, char **allow,
                                         DroverRestProblem *problem);

/* ROUTE takes the query parameter NAME. */
bool drover_rest_route_takes(const DroverRestRoute *route, const char *name);

/* Shapes of ids. */
bool drover_rest_is_uuid(const char *text);
bool drover_rest_is_operation_id(const char *text); /* also the leader's, which have slashes */

#endif
