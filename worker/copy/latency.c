/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/copy/latency.h"

/* Values below 16 have a bucket each; above, the three bits after the leading one choose among eight. */
static unsigned bucket_of(uint64_t us)
{
    if (us < 16)
        return (unsigned)us;
    unsigned log = 63u - (unsigned)__builtin_clzll(us);
    unsigned bucket = 16 + (log - 4) * 8 + (unsigned)(us >> (log - 3) & 7);
    return bucket < DROVER_LATENCY_BUCKETS ? bucket : DROVER_LATENCY_BUCKETS - 1;
}

static uint64_t upper_bound(unsigned bucket)
{
    if (bucket < 16)
        return bucket;
    unsigned log = 4 + (bucket - 16) / 8;
    uint64_t step = UINT64_C(1) << (log - 3);
    return (8 + (bucket - 16) % 8 + 1) * step - 1;
}

void drover_latency_add(DroverLatency *latency, uint64_t us)
{
    latency->count++;
    latency->buckets[bucket_of(us)]++;
}

uint64_t drover_latency_percentile(const DroverLatency *latency, unsigned percent)
{
    if (latency->count == 0)
        return 0;
    uint64_t rank = (latency->count * percent + 99) / 100, seen = 0;
    for (unsigned i = 0; i < DROVER_LATENCY_BUCKETS; i++) {
        seen += latency->buckets[i];
        if (seen >= rank && seen > 0)
            return upper_bound(i);
    }
    return upper_bound(DROVER_LATENCY_BUCKETS - 1);
}
