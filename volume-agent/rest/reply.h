/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers to requests, and the one error object: {"code": "DRV-…", "message": "…", "request_id": "…",
 * "details": {…}}. Pure.
 */
#ifndef DROVER_VOLUME_AGENT_REST_REPLY_H
#define DROVER_VOLUME_AGENT_REST_REPLY_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

typedef struct {
    unsigned status;          /* of HTTP */
    const char *content_type; /* static */
    char *body;
    size_t len;
    unsigned retry_after_s; /* 0: none */
    char *allow;            /* for 405 */
    char *location;         /* of the operation, for 202 */
} DroverRestReply;
void drover_rest_reply_clear(DroverRestReply *reply);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(DroverRestReply, drover_rest_reply_clear)

/* Takes JSON. */
void drover_rest_reply_json(DroverRestReply *reply, unsigned status, json_t *json);
/* Takes TEXT. */
void drover_rest_reply_text(DroverRestReply *reply, unsigned status, const char *content_type, char *text);

/* An error in the making: STATUS 0 is none. Handlers fill it in, whoever knows the request id makes the reply
 * of it. */
typedef struct {
    unsigned status;
    char *code;
    char *message;
    json_t *details; /* object, or NULL */
    unsigned retry_after_s;
} DroverRestProblem;
void drover_rest_problem_clear(DroverRestProblem *problem);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(DroverRestProblem, drover_rest_problem_clear)

/* Sets *PROBLEM and returns false, so that "return drover_rest_problem(...)" reads well. */
bool drover_rest_problem(DroverRestProblem *problem, unsigned status, const char *code, const char *format,
                         ...) G_GNUC_PRINTF(4, 5);
/* One more detail; returns false. */
bool drover_rest_problem_detail(DroverRestProblem *problem, const char *name, const char *value);
/* From a failure inside the agent: CloudStack away or busy 503 with Retry-After, its refusals 502, fenced
 * 409; an error with a code of its own keeps it. Returns false. */
bool drover_rest_problem_from(DroverRestProblem *problem, const GError *error);

/* The reply that says so. */
void drover_rest_reply_problem(DroverRestReply *reply, const DroverRestProblem *problem,
                               const char *request_id);

#endif
