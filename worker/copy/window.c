/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/copy/window.h"

#define SAMPLE_US 50000
#define FEW_SAMPLES 3u

static uint64_t within(uint64_t bytes, uint64_t limit_bytes)
{
    return bytes < limit_bytes ? bytes : limit_bytes;
}

void drover_window_init(DroverWindow *window, uint64_t start_bytes, uint64_t floor_bytes, uint64_t limit_bytes,
                        int64_t now_us)
{
    *window = (DroverWindow){.bytes = within(start_bytes, limit_bytes),
                             .floor_bytes = within(floor_bytes, limit_bytes),
                             .limit_bytes = limit_bytes,
                             .cap_bytes = limit_bytes,
                             .sample_began_us = now_us,
                             .sample_min_us = UINT64_MAX};
    window->largest = window->bytes;
    for (unsigned i = 0; i < DROVER_WINDOW_SAMPLES; i++)
        window->min_us[i] = UINT64_MAX;
}

static void settle(DroverWindow *window)
{
    uint64_t rate = 0, min_us = UINT64_MAX;
    for (unsigned i = 0; i < DROVER_WINDOW_SAMPLES; i++) {
        rate = window->rate[i] > rate ? window->rate[i] : rate;
        min_us = window->min_us[i] < min_us ? window->min_us[i] : min_us;
    }
    /* The first samples tell little: of a long path they hold the first answers only. */
    window->best_rate = ++window->samples > FEW_SAMPLES ? rate : 0;
    /* A sample right after the window has grown still counts answers of the smaller one, so that twice would
     * double it only every second round trip: four times, as long as more brings more. */
    unsigned newest = (window->next + DROVER_WINDOW_SAMPLES - 1) % DROVER_WINDOW_SAMPLES;
    unsigned before = (newest + DROVER_WINDOW_SAMPLES - 1) % DROVER_WINDOW_SAMPLES;
    bool rises = (double)window->rate[newest] > 1.25 * (double)window->rate[before];
    double product = (rises ? 4.0 : 2.0) * (double)rate * (double)min_us / 1e6;
    double batch = 2.0 * (double)rate * DROVER_WINDOW_LEAST_US / 1e6;
    product = product > batch ? product : batch;
    product = product > (double)window->floor_bytes ? product : (double)window->floor_bytes;
    window->bytes = product < (double)window->cap_bytes ? (uint64_t)product : window->cap_bytes;
    window->largest = window->bytes > window->largest ? window->bytes : window->largest;
}

void drover_window_answered(DroverWindow *window, uint64_t bytes, uint64_t latency_us, int64_t now_us)
{
    window->sample_bytes += bytes;
    if (latency_us < window->sample_min_us)
        window->sample_min_us = latency_us;
    /* A sample spans at least one round trip, else a long path looks like bursts and silence. */
    int64_t span = now_us - window->sample_began_us;
    if (span < SAMPLE_US || (uint64_t)span < window->sample_min_us)
        return;
    window->rate[window->next] = (uint64_t)((double)window->sample_bytes * 1e6 / (double)span);
    window->min_us[window->next] = window->sample_min_us;
    window->next = (window->next + 1) % DROVER_WINDOW_SAMPLES;
    window->sample_began_us = now_us;
    window->sample_bytes = 0;
    window->sample_min_us = UINT64_MAX;
    if (!window->refused)
        window->cap_bytes = within(window->cap_bytes + DROVER_WINDOW_STEP_BYTES, window->limit_bytes);
    window->refused = false;
    settle(window);
}

void drover_window_refused(DroverWindow *window)
{
    if (window->refused)
        return;
    window->refused = true;
    uint64_t half = window->bytes / 2;
    window->cap_bytes = half > DROVER_WINDOW_STEP_BYTES ? half : DROVER_WINDOW_STEP_BYTES;
    window->bytes = within(window->bytes, window->cap_bytes);
}

uint64_t drover_window_request(const DroverWindow *window, uint64_t largest, uint64_t least)
{
    uint64_t timely = window->best_rate / (1000000 / DROVER_WINDOW_REQUEST_US);
    uint64_t size = largest;
    while (size / 2 >= least && size / 2 % least == 0 &&
           (size > window->bytes / 2 || (window->best_rate > 0 && size > timely)))
        size /= 2;
    return size;
}
