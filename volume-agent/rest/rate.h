/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many requests a caller may make: a token bucket for each, of BURST requests, filled at RATE a second.
 * Bounded: with more than CALLERS of them, the one that has been silent longest is forgotten (and finds its
 * bucket full). Pure; not locked.
 */
#ifndef DROVER_VOLUME_AGENT_REST_RATE_H
#define DROVER_VOLUME_AGENT_REST_RATE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct DroverRestRate DroverRestRate;
/* RATE 0: no limit. */
DroverRestRate *drover_rest_rate_new(double rate, unsigned burst, unsigned callers);
void drover_rest_rate_free(DroverRestRate *limit);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverRestRate, drover_rest_rate_free)

/* CALLER makes a request at NOW_MS (any clock that does not go back). False: too many; *RETRY_S is when it
 * may try again, whole seconds, at least 1. */
bool drover_rest_rate_take(DroverRestRate *limit, const char *caller, int64_t now_ms, unsigned *retry_s);

#endif
