/* SPDX-License-Identifier: Apache-2.0 */
#include "core/preflight/estimate.h"

#include <glib.h>

#define HOUR_S 3600.0
#define MINUTE_MS UINT64_C(60000)
/* Snapshot made and removed, areas asked for, disks opened: what a round costs without a single byte. */
#define ROUND_MS_LOW UINT64_C(15000)
#define ROUND_MS_HIGH UINT64_C(60000)
/* Shutdown of the guest, conversion, hand-over of volumes, boot. */
#define DOWN_MS_LOW (2 * MINUTE_MS)
#define DOWN_MS_HIGH (15 * MINUTE_MS)

static uint64_t ms_for(double bytes, double bytes_per_second)
{
    double ms = bytes / bytes_per_second * 1000;
    return ms < (double)(G_MAXINT64 / 4) ? (uint64_t)ms : G_MAXINT64 / 4;
}

/*
 * A round that lasts T leaves c T bytes to the next, which lasts overhead + c T / r. If c < r, that settles at
 * T = overhead / (1 - c / r); a longer interval between rounds leaves more. Bytes of the last round; -1: never settles.
 */
static double last_round(double change, double throughput, uint64_t overhead_ms, uint64_t interval_ms)
{
    if (change >= throughput)
        return -1;
    double settled_ms = (double)overhead_ms / (1 - change / throughput);
    return change * MAX(settled_ms, (double)interval_ms) / 1000;
}

DroverEstimate drover_estimate(const DroverEstimateFacts *facts)
{
    DroverEstimate e = {.throughput_assumed = facts->throughput.high == 0,
                        .change_rate_assumed = facts->changed_bytes_per_hour.high == 0};
    double used = (double)facts->used_bytes;
    double slow = e.throughput_assumed ? DROVER_ASSUMED_SLOW : (double)MAX(facts->throughput.low, 1);
    double fast = e.throughput_assumed ? DROVER_ASSUMED_FAST : (double)facts->throughput.high;
    double quiet = e.change_rate_assumed ? used * DROVER_ASSUMED_QUIET_PERCENT / 100 / 24
                                         : (double)facts->changed_bytes_per_hour.low;
    double busy = e.change_rate_assumed ? used * DROVER_ASSUMED_BUSY_PERCENT / 100 / 24
                                        : (double)facts->changed_bytes_per_hour.high;
    e.first_round_ms = (DroverSpan){ms_for(used, fast) + ROUND_MS_LOW, ms_for(used, slow) + ROUND_MS_HIGH};
    double least = last_round(quiet / HOUR_S, fast, ROUND_MS_LOW, facts->round_interval_ms);
    double most = last_round(busy / HOUR_S, slow, ROUND_MS_HIGH, facts->round_interval_ms);
    e.converges = most >= 0;
    /* More than everything never changes between two rounds. */
    least = least < 0 ? used : MIN(least, used);
    most = most < 0 ? used : MIN(most, used);
    e.last_round_bytes = (DroverSpan){(uint64_t)least, (uint64_t)most};
    e.downtime_ms = (DroverSpan){DOWN_MS_LOW + ROUND_MS_LOW + ms_for(least, fast),
                                 DOWN_MS_HIGH + ROUND_MS_HIGH + ms_for(most, slow)};
    return e;
}
