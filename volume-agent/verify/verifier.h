/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue of read-back requests, served by a few threads beside running copies. Verification is idempotent
 * and not journalled: what is lost with the process is asked again by the leader.
 */
#ifndef DROVER_VOLUME_AGENT_VERIFY_VERIFIER_H
#define DROVER_VOLUME_AGENT_VERIFY_VERIFIER_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/digest/digest.h"

typedef struct {
    uint64_t cell;
    DroverDigest expected;
    GArray *ranges; /* DroverRange; NULL or empty: the whole cell */
} DroverVerifyCell;

typedef struct {
    char *job_id;
    char *disk_id;
    char *task_id;
    uint32_t attempt;
    uint32_t round;
    char *volume_id;
    uint64_t generation;
    uint64_t sequence;
    DroverDigestAlgorithm digest;
    uint64_t capacity_bytes;
    GArray *cells; /* DroverVerifyCell */
} DroverVerifyRequest;

DroverVerifyRequest *drover_verify_request_new(void);
void drover_verify_request_free(DroverVerifyRequest *request);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverVerifyRequest, drover_verify_request_free)

/* Nothing is known about cells in neither list; then ERROR says why. */
typedef struct {
    GArray *verified;   /* uint64_t */
    GArray *mismatched; /* uint64_t */
    uint64_t read_bytes;
    const GError *error; /* NULL: none */
} DroverVerifyOutcome;

typedef struct {
    void *data;
    /* Device of VOLUME_ID, newly allocated, if GENERATION is its current one; NULL with an error (FENCED:
     * another generation). Asked before the reading and after it: what was read in between counts only if it
     * is still so. */
    char *(*locate)(void *data, const char *volume_id, uint64_t generation, GError **error);
    /* The answer to one request. */
    void (*answer)(void *data, const DroverVerifyRequest *request, const DroverVerifyOutcome *outcome);
    /* True when nobody needs the answer any more (the job was stopped): the request is dropped. */
    bool (*is_obsolete)(void *data, const char *job_id);
} DroverVerifyCallbacks;

typedef struct {
    uint64_t delay_ms;              /* wait this long after a request came before reading; 0: none */
    uint64_t rate_bytes_per_second; /* of all threads together; 0: unlimited */
    unsigned threads;               /* requests at a time, each with one read in flight; 0: 1 */
} DroverVerifyLimits;

typedef struct DroverVerifier DroverVerifier;

/* Callbacks run on the verifier's threads, several at a time, and may block. */
DroverVerifier *drover_verifier_new(const DroverVerifyLimits *limits, const DroverVerifyCallbacks *callbacks);
/* Takes REQUEST; any thread, does not block. */
void drover_verifier_submit(DroverVerifier *verifier, DroverVerifyRequest *request);
/* Waits until no cell of VOLUME_ID is being read; whoever calls it has made sure that locate() refuses the
 * volume by now. */
void drover_verifier_release(DroverVerifier *verifier, const char *volume_id);
/* Drops what is queued, waits for the cells in progress. NULL is allowed. */
void drover_verifier_free(DroverVerifier *verifier);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverVerifier, drover_verifier_free)

#endif
