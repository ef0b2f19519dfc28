/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/rest/reply.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/log.h"

#define RETRY_S 2

void drover_rest_reply_clear(DroverRestReply *reply)
{
    g_free(reply->body);
    g_free(reply->allow);
    g_free(reply->location);
    *reply = (DroverRestReply){0};
}

void drover_rest_reply_text(DroverRestReply *reply, unsigned status, const char *content_type, char *text)
{
    g_free(reply->body);
    reply->status = status;
    reply->content_type = content_type;
    reply->body = text;
    reply->len = strlen(text);
}

void drover_rest_reply_json(DroverRestReply *reply, unsigned status, json_t *json)
{
    char *dumped = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    drover_rest_reply_text(reply, status, "application/json", g_strconcat(dumped, "\n", NULL));
    memset(dumped, 0, strlen(dumped));
    free(dumped);
}

void drover_rest_problem_clear(DroverRestProblem *problem)
{
    g_free(problem->code);
    g_free(problem->message);
    json_decref(problem->details);
    *problem = (DroverRestProblem){0};
}

bool drover_rest_problem(DroverRestProblem *problem, unsigned status, const char *code, const char *format,
                         ...)
{
    drover_rest_problem_clear(problem);
    va_list arguments;
    va_start(arguments, format);
    g_autofree char *message = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    problem->status = status;
    problem->code = g_strdup(code);
    g_autofree char *valid = g_utf8_make_valid(message, -1);
    problem->message = drover_redact(valid);
    problem->retry_after_s = status == 503 ? RETRY_S : 0;
    return false;
}

bool drover_rest_problem_detail(DroverRestProblem *problem, const char *name, const char *value)
{
    if (!problem->details)
        problem->details = json_object();
    json_object_set_new(problem->details, name, json_string(value));
    return false;
}

bool drover_rest_problem_from(DroverRestProblem *problem, const GError *error)
{
    g_autofree char *code = drover_error_code(error->message);
    DroverErrorClass class = drover_error_class(error);
    unsigned status = class == DROVER_ERROR_RETRYABLE ? 503 : class == DROVER_ERROR_FENCED ? 409 : 502;
    if (g_str_has_suffix(code, "-MISSING"))
        status = 404;
    else if (strcmp(code, "DRV-DEVICE-BUSY") == 0)
        status = 409;
    const char *message = *code ? error->message + strlen(code) + 1 : error->message;
    while (*message == ' ')
        message++;
    const char *fallback = status == 409   ? "DRV-FENCED"
                           : status == 503 ? "DRV-REST-UNAVAILABLE"
                                           : "DRV-REST-REFUSED";
    return drover_rest_problem(problem, status, *code ? code : fallback, "%s", message);
}

void drover_rest_reply_problem(DroverRestReply *reply, const DroverRestProblem *problem,
                               const char *request_id)
{
    json_t *json = json_object();
    json_object_set_new(json, "code", json_string(problem->code));
    json_object_set_new(json, "message", json_string(problem->message));
    json_object_set_new(json, "request_id", json_string(request_id));
    json_object_set_new(json, "details", problem->details ? json_incref(problem->details) : json_object());
    drover_rest_reply_json(reply, problem->status, json);
    reply->retry_after_s = problem->retry_after_s;
}
