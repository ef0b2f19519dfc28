/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "lib/digest/digest.h"
#include "worker/source/areas.h"

static void test_smallest_gaps_first(void **state)
{
    (void)state;
    const DroverRange ranges[] = {{0, 10}, {11, 9}, {40, 10}, {51, 1}, {53, 1}, {100, 1}};
    for (unsigned max = 1; max <= 6; max++) {
        g_autoptr(GArray) areas = g_array_new(false, false, sizeof(DroverRange));
        g_array_append_vals(areas, ranges, G_N_ELEMENTS(ranges));
        assert_int_equal(drover_areas_limit(areas, max), 6 - max);
        assert_int_equal(areas->len, max);
        /* Nothing that was listed is lost. */
        for (size_t i = 0; i < G_N_ELEMENTS(ranges); i++) {
            bool inside = false;
            for (guint k = 0; k < areas->len; k++) {
                const DroverRange *area = &g_array_index(areas, DroverRange, k);
                inside |= area->offset <= ranges[i].offset &&
                          ranges[i].offset + ranges[i].length <= area->offset + area->length;
            }
            assert_true(inside);
        }
        if (max == 3)
            assert_int_equal(g_array_index(areas, DroverRange, 1).length, 14); /* 40 to 54 */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_smallest_gaps_first)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
