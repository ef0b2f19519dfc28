/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CloudStack's API: signed POST requests, answers as JSON, errors with their class and CloudStack's own text. Knows
 * nothing of volumes or VMs. Any thread; calls block. Keys never appear in errors or logs.
 */
#ifndef DROVER_VOLUME_AGENT_CLOUDSTACK_CLIENT_H
#define DROVER_VOLUME_AGENT_CLOUDSTACK_CLIENT_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct DroverCloudStack DroverCloudStack;

/* URL: of the API, ".../client/api". KEY_FILE: API key and secret key, one a line; readable to its owner only, or it is
 * refused. TIMEOUT_MS bounds one request. */
DroverCloudStack *drover_cloudstack_new(const char *url, const char *key_file, int64_t timeout_ms, GError **error);
void drover_cloudstack_free(DroverCloudStack *cloud);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverCloudStack, drover_cloudstack_free)

/* Why a call failed, beside the GError. */
typedef struct {
    int error_code;     /* CloudStack's errorcode (= HTTP status); 0: no answer of CloudStack */
    bool maybe_done;    /* no answer came to a request that may have been received: ask before repeating */
    bool expired;       /* refused, and its signature had died by then: it may be signed anew */
} DroverCloudFailure;

/*
 * One request. PARAMETERS: name, value, name, value, ..., NULL; a NULL or empty value leaves the name out. EXPIRES_AT_MS is
 * for requests that change something: the signature dies then (Unix time), so the server refuses whatever arrives later, and
 * the request is sent at most once. 0 is for those that only ask: they die in 60 s and may be sent again on a broken connection. Returns the object inside
 * "<command>response" (a new reference), or NULL: RETRYABLE when CloudStack could not be reached, is busy or had an internal
 * error, PERMANENT when it refuses. Messages begin with DRV-CLOUDSTACK-… and hold CloudStack's own text. FAILURE may be NULL.
 */
json_t *drover_cloudstack_call(DroverCloudStack *cloud, const char *command, int64_t expires_at_ms,
                               const char *const *parameters, DroverCloudFailure *failure, GError **error);

/* SEEN is called after every request, on the thread that made it: the command, how long the answer took, and what came of it:
 * 0 success, CloudStack's errorcode, -1 no answer. Set it before the first request. */
typedef void (*DroverCloudSeen)(void *data, const char *command, int64_t took_us, int error_code);
void drover_cloudstack_observe(DroverCloudStack *cloud, DroverCloudSeen seen, void *data);

/* ERROR means that CloudStack could not be reached (code DRV-CLOUDSTACK-DOWN), not that it refused or failed. */
bool drover_cloudstack_is_down(const GError *error);
/* The last request was answered by CloudStack. False before the first. */
bool drover_cloudstack_is_reachable(DroverCloudStack *cloud);
/* Time since the last answer; very long when there was none. */
int64_t drover_cloudstack_silence_ms(DroverCloudStack *cloud);

typedef enum { DROVER_CLOUD_JOB_RUNNING, DROVER_CLOUD_JOB_DONE, DROVER_CLOUD_JOB_FAILED, DROVER_CLOUD_JOB_LOST } DroverCloudJob;

/*
 * Asks once how an async job does. DONE: *RESULT is its jobresult (a new reference). FAILED: ERROR says why, by class. LOST: the
 * server forgot it (unknown id), or was restarted and failed it without a result: ask what happened. RUNNING: also when
 * the server cannot be reached, then with ERROR set.
 */
DroverCloudJob drover_cloudstack_job(DroverCloudStack *cloud, const char *job_id, json_t **result, GError **error);

/* A member of an object as text; "" when it is missing or null. Owned by OBJECT. */
const char *drover_json_text(const json_t *object, const char *name);

#endif
