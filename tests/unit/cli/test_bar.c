/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bar.h"

#include <glib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void expect(char *got, const char *wanted)
{
    assert_string_equal(got, wanted);
    g_free(got);
}

static void bars(void **state)
{
    (void)state;
    expect(drover_bar(0, 0, 5, false), ".....");
    expect(drover_bar(0, 10, 5, false), ".....");
    expect(drover_bar(5, 10, 4, false), "##..");
    expect(drover_bar(10, 10, 4, false), "####");
    expect(drover_bar(999999999, 1000000000, 4, false), "###.");
    expect(drover_bar(11, 10, 4, false), "####");
    expect(drover_bar(1, 1000000, 3, true), "▏  ");
    expect(drover_bar(5, 16, 2, true), "▋ ");
    expect(drover_bar(UINT64_MAX - 1, UINT64_MAX, 2, true), "█▉");
    for (uint64_t done = 0; done <= 1000; done++) {
        g_autofree char *bar = drover_bar(done, 1000, 40, true);
        assert_int_equal(g_utf8_strlen(bar, -1), 40);
    }
}

static void sizes(void **state)
{
    (void)state;
    expect(drover_size_text(0), "0 B");
    expect(drover_size_text(999), "999 B");
    expect(drover_size_text(1000), "1.00 kB");
    expect(drover_size_text(999499), "999 kB");
    expect(drover_size_text(999500), "1.00 MB");
    expect(drover_size_text(12345678), "12.3 MB");
    expect(drover_size_text(UINT64_MAX), "18447 PB");
    expect(drover_rate_text(0), "-");
    expect(drover_rate_text(120400000), "120 MB/s");
}

static void times(void **state)
{
    (void)state;
    expect(drover_duration_text(-1), "-");
    expect(drover_duration_text(0), "0s");
    expect(drover_duration_text(61), "1m 01s");
    expect(drover_duration_text(3720), "1h 02m");
    expect(drover_duration_text(90000), "1d 01h");
}

static void percents(void **state)
{
    (void)state;
    expect(drover_percent_text(0, 0), "-");
    expect(drover_percent_text(0, 5), "0.0%");
    expect(drover_percent_text(9999999, 10000000), "99.9%");
    expect(drover_percent_text(5, 5), "100.0%");
    expect(drover_percent_text(UINT64_MAX - 1, UINT64_MAX), "99.9%");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(bars), cmocka_unit_test(sizes), cmocka_unit_test(times),
                                       cmocka_unit_test(percents)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
