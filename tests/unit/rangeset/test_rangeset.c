/* SPDX-License-Identifier: Apache-2.0 */
/* Range sets against a bitmap, one bit a byte of a small disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <glib.h>
#include <string.h>

#include "lib/rangeset/rangeset.h"

enum { DISK = 400 };

static void check(DroverRangeset *set, const uint8_t *bits)
{
    uint8_t seen[DISK] = {0};
    size_t n;
    const DroverRange *ranges = drover_rangeset_ranges(set, &n);
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        assert_true(ranges[i].length > 0);
        assert_true(i == 0 || ranges[i].offset > ranges[i - 1].offset + ranges[i - 1].length);
        assert_true(ranges[i].offset + ranges[i].length <= DISK);
        memset(seen + ranges[i].offset, 1, ranges[i].length);
        sum += ranges[i].length;
    }
    assert_memory_equal(seen, bits, DISK);
    assert_int_equal(drover_rangeset_bytes(set), sum);
}

static void behaves_like_a_bitmap(void **state)
{
    (void)state;
    g_autoptr(GRand) rand = g_rand_new_with_seed(3);
    for (int run = 0; run < 300; run++) {
        g_autoptr(DroverRangeset) set = drover_rangeset_new();
        uint8_t bits[DISK] = {0};
        for (int step = 0; step < 40; step++) {
            uint64_t from = (uint64_t)g_rand_int_range(rand, 0, DISK),
                     len = (uint64_t)g_rand_int_range(rand, 0, 40);
            len = MIN(len, DISK - from);
            switch (g_rand_int_range(rand, 0, 8)) {
            case 0:
                drover_rangeset_remove(set, from, len);
                memset(bits + from, 0, len);
                break;
            case 1: {
                if (step % 10 != 0)
                    break;
                drover_rangeset_clip(set, from, len * 10);
                for (uint64_t i = 0; i < DISK; i++)
                    if (i < from || i >= from + len * 10)
                        bits[i] = 0;
                break;
            }
            case 2: {
                uint64_t block = (uint64_t)g_rand_int_range(rand, 1, 9);
                uint8_t grown[DISK] = {0};
                for (uint64_t i = 0; i < DISK; i++)
                    if (bits[i])
                        for (uint64_t j = i / block * block; j < MIN((i / block + 1) * block, DISK); j++)
                            grown[j] = 1;
                memcpy(bits, grown, DISK);
                drover_rangeset_align(set, block, DISK);
                break;
            }
            default:
                assert_true(drover_rangeset_add(set, from, len));
                memset(bits + from, 1, len);
            }
            if (g_rand_boolean(rand))
                check(set, bits);
            bool all = true;
            for (uint64_t i = from; i < from + len; i++)
                all = all && bits[i];
            assert_int_equal(drover_rangeset_contains(set, from, len), all);
        }
        check(set, bits);
    }
}

static void find_gives_the_first_range_that_ends_later(void **state)
{
    (void)state;
    g_autoptr(DroverRangeset) set = drover_rangeset_new();
    assert_int_equal(drover_rangeset_find(set, 0), 0);
    drover_rangeset_add(set, 30, 10);
    drover_rangeset_add(set, 10, 10);
    assert_int_equal(drover_rangeset_find(set, 0), 0);
    assert_int_equal(drover_rangeset_find(set, 19), 0);
    assert_int_equal(drover_rangeset_find(set, 20), 1);
    assert_int_equal(drover_rangeset_find(set, 39), 1);
    assert_int_equal(drover_rangeset_find(set, 40), 2);
}

static void the_end_of_the_world_is_refused(void **state)
{
    (void)state;
    g_autoptr(DroverRangeset) set = drover_rangeset_new();
    assert_false(drover_rangeset_add(set, UINT64_MAX, 1));
    assert_false(drover_rangeset_add(set, 1, UINT64_C(1) << 63));
    assert_true(drover_rangeset_add(set, 0, UINT64_C(1) << 63));
    assert_true(drover_rangeset_add(set, 5, UINT64_C(1) << 62));
    drover_rangeset_align(set, 4096, UINT64_C(1) << 63);
    assert_int_equal(drover_rangeset_bytes(set), UINT64_C(1) << 63);
    size_t n;
    drover_rangeset_ranges(set, &n);
    assert_int_equal(n, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(behaves_like_a_bitmap),
        cmocka_unit_test(find_gives_the_first_range_that_ends_later),
        cmocka_unit_test(the_end_of_the_world_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
