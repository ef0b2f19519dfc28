/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a migration takes and how long the VM is down, as ranges. What is not known is assumed within wide limits, and
 * said to be assumed. Pure.
 *
 *   first round   used bytes / throughput
 *   a round       changes since the one before / throughput, and a minute or less for snapshots
 *   last round    changes during the shortest round that can be repeated (or the interval)
 *   downtime      shutdown, last round, conversion, hand-over and boot
 */
#ifndef DROVER_CORE_PREFLIGHT_ESTIMATE_H
#define DROVER_CORE_PREFLIGHT_ESTIMATE_H

#include <stdbool.h>
#include <stdint.h>

/* Assumed where nothing was measured. */
#define DROVER_ASSUMED_SLOW (UINT64_C(40) << 20)  /* bytes per second: one NFC stream over 1 Gbit/s, shared */
#define DROVER_ASSUMED_FAST (UINT64_C(300) << 20) /* one NFC stream over 10 Gbit/s */
#define DROVER_ASSUMED_QUIET_PERCENT 1            /* of the used bytes, changed in a day */
#define DROVER_ASSUMED_BUSY_PERCENT 10

typedef struct {
    uint64_t low;
    uint64_t high;
} DroverSpan;

typedef struct {
    uint64_t used_bytes;               /* of all disks */
    DroverSpan throughput;             /* measured, bytes per second; high 0: not known */
    DroverSpan changed_bytes_per_hour; /* measured; high 0: not known */
    uint64_t round_interval_ms;        /* 0: one round follows the other */
} DroverEstimateFacts;

typedef struct {
    DroverSpan first_round_ms;
    DroverSpan last_round_bytes;
    DroverSpan downtime_ms;
    bool throughput_assumed;
    bool change_rate_assumed;
    /* Rounds get shorter even in the worst case of the ranges; false: they may not, and downtime_ms.high is that of a
     * copy of all used bytes. */
    bool converges;
} DroverEstimate;

DroverEstimate drover_estimate(const DroverEstimateFacts *facts);

#endif
