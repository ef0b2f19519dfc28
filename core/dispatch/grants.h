/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Splits a job's bandwidth limit over its running tasks. A grant expires; until then its holder may use it,
 * even if a newer one has been written, because nobody knows when the holder reads that. So a new grant is
 * made only from what no unexpired one of anybody else covers, and the sum of unexpired grants and floors
 * never exceeds the limit. Half of the time to live is added for the way to the holder. Pure.
 */
#ifndef DROVER_CORE_DISPATCH_GRANTS_H
#define DROVER_CORE_DISPATCH_GRANTS_H

#include <glib.h>
#include <stdint.h>

typedef struct DroverGrants DroverGrants;
DroverGrants *drover_grants_new(void);
void drover_grants_free(DroverGrants *grants);

/* What one running task may use now. */
typedef struct {
    const char *holder;        /* "<task_id>/<attempt>" */
    uint64_t bytes_per_second; /* out; at least the floor */
} DroverGrant;

/* What a task may use without an unexpired grant, of a limit shared by at most MAX_HOLDERS tasks: a tenth of
 * the limit is set aside for floors. At least 1. */
uint64_t drover_grants_floor(uint64_t limit, uint32_t max_holders);

/*
 * Renews the grants of N holders (all running tasks of the job) for TTL_MS. Those of others run out by
 * themselves, unless drover_grants_end tells that their holder is known to have stopped.
 */
void drover_grants_renew(DroverGrants *grants, uint64_t limit, uint64_t floor, DroverGrant *holders, size_t n,
                         int64_t ttl_ms, int64_t now_ms);
/* HOLDER may use RATE (beyond the floor) until EXPIRES_MS: known from an earlier leader. */
void drover_grants_hold(DroverGrants *grants, const char *holder, uint64_t rate, int64_t expires_ms);
void drover_grants_end(DroverGrants *grants, const char *holder);

#endif
