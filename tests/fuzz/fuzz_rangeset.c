/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of ranges against a bitmap: the input is a list of operations, 4 bytes each. */
#include <string.h>

#include "lib/rangeset/rangeset.h"

#define N 512

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(DroverRangeset *set, const bool *bits)
{
    size_t n;
    uint64_t end = 0, bytes = 0;
    const DroverRange *ranges = drover_rangeset_ranges(set, &n);
    bool mine[N] = {false};
    for (size_t i = 0; i < n; i++) {
        g_assert(ranges[i].length > 0 && (i == 0 || ranges[i].offset > end)); /* sorted, apart */
        end = ranges[i].offset + ranges[i].length;
        bytes += ranges[i].length;
        g_assert_cmpuint(end, <=, N);
        memset(mine + ranges[i].offset, true, ranges[i].length);
    }
    g_assert_cmpmem(mine, sizeof mine, bits, N);
    g_assert_cmpuint(drover_rangeset_bytes(set), ==, bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(DroverRangeset) set = drover_rangeset_new();
    bool bits[N] = {false};
    for (size_t i = 0; i + 4 <= size && i < 4 * 256; i += 4) {
        uint64_t offset = (data[i + 1] | (uint64_t)data[i + 2] << 8) % N, length = MIN((uint64_t)data[i + 3] + 1, N - offset);
        switch (data[i] % 5) {
        case 0:
        case 1:
            g_assert(drover_rangeset_add(set, offset, length));
            memset(bits + offset, true, length);
            break;
        case 2:
            drover_rangeset_remove(set, offset, length);
            memset(bits + offset, false, length);
            break;
        case 3:
            if (data[i + 3] % 8 == 0) {
                drover_rangeset_clip(set, offset, length);
                memset(bits, false, offset);
                memset(bits + offset + length, false, N - offset - length);
            }
            break;
        default: {
            uint64_t block = UINT64_C(1) << data[i + 3] % 6;
            drover_rangeset_align(set, block, N);
            for (uint64_t b = 0; b < N; b += block)
                if (memchr(bits + b, true, block) != NULL)
                    memset(bits + b, true, block);
        }
        }
        check(set, bits);
        bool all = true;
        for (uint64_t b = offset; b < offset + length; b++)
            all = all && bits[b];
        g_assert(drover_rangeset_contains(set, offset, length) == all);
    }
    return 0;
}
