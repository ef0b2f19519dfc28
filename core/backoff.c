/* SPDX-License-Identifier: Apache-2.0 */
#include "core/backoff.h"

int64_t drover_backoff_ms(uint32_t failures, int64_t first_ms, int64_t max_ms, uint32_t random)
{
    int64_t wait = first_ms;
    for (uint32_t i = 1; i < failures && wait < max_ms; i++)
        wait *= 2;
    if (wait > max_ms)
        wait = max_ms;
    int64_t half = wait / 2;
    return wait - half + half * (int64_t)(random & 0xffff) / 0xffff;
}
