/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting times between repetitions: doubling, bounded, with jitter. Pure. */
#ifndef DROVER_CORE_BACKOFF_H
#define DROVER_CORE_BACKOFF_H

#include <stdint.h>

/*
 * How long to wait, in milliseconds, before repetition number FAILURES (1 or more): FIRST_MS doubled each
 * time, at most MAX_MS, of which the upper half is scaled by RANDOM (any number; the caller's generator), so
 * that many failures of one cause do not come back at once.
 */
int64_t drover_backoff_ms(uint32_t failures, int64_t first_ms, int64_t max_ms, uint32_t random);

#endif
