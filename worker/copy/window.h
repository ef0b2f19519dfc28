/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many bytes of reads to keep in flight: twice bandwidth x round-trip time (Little's law; the factor
 * probes for more and follows down when the path gets slower), four times while the bandwidth rises, never
 * less than a floor, never more than the memory budget. Round-trip time is the least that was seen lately,
 * since everything above it is queueing that our own requests cause. A shorter one than DROVER_WINDOW_LEAST_US
 * counts as that: on a fast short path fewer bytes mean that client and server wake each other for each
 * request, which costs more than the cache gains; on a slow one they still are few. Pure.
 */
#ifndef DROVER_WORKER_COPY_WINDOW_H
#define DROVER_WORKER_COPY_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

enum { DROVER_WINDOW_SAMPLES = 8 };
#define DROVER_WINDOW_LEAST_US 8000
#define DROVER_WINDOW_STEP_BYTES (UINT64_C(64) << 10)

typedef struct {
    uint64_t floor_bytes, limit_bytes;
    uint64_t cap_bytes; /* LIMIT_BYTES, or less since the server refused requests */
    bool refused;       /* in this sample */
    uint64_t bytes;   /* the window */
    uint64_t largest; /* that it ever was */
    /* the sample being taken */
    int64_t sample_began_us;
    uint64_t sample_bytes;
    uint64_t sample_min_us;
    /* the last samples, as rings */
    uint64_t rate[DROVER_WINDOW_SAMPLES];   /* bytes per second */
    uint64_t min_us[DROVER_WINDOW_SAMPLES]; /* UINT64_MAX: no answer came */
    unsigned next;
    uint64_t samples;   /* ever taken */
    uint64_t best_rate; /* of the last samples; 0: too few are taken */
} DroverWindow;

/* START_BYTES: until a path is measured. */
void drover_window_init(DroverWindow *window, uint64_t start_bytes, uint64_t floor_bytes, uint64_t limit_bytes,
                        int64_t now_us);
/* A request of BYTES was answered after LATENCY_US. */
void drover_window_answered(DroverWindow *window, uint64_t bytes, uint64_t latency_us, int64_t now_us);

/*
 * The server answered a request with an error that is worth another try: perhaps it has too much to do (an ESXi host
 * without NFC memory says so in this way), so less is asked of it. Halves the window, once a sample; it comes back by
 * DROVER_WINDOW_STEP_BYTES a sample without an error.
 */
void drover_window_refused(DroverWindow *window);

#define DROVER_WINDOW_REQUEST_US 100000
/*
 * How large one request is to be: LARGEST, halved while it is more than half of the window (a server that refuses requests
 * wants less at a time, too) or takes the path longer than DROVER_WINDOW_REQUEST_US, but not below LEAST; a multiple of LEAST.
 */
uint64_t drover_window_request(const DroverWindow *window, uint64_t largest, uint64_t least);

#endif
