/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's pure parts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "worker/copy/allocation.h"
#include "worker/copy/endpoint.h"
#include "worker/copy/latency.h"
#include "worker/copy/pool.h"
#include "worker/copy/throttle.h"
#include "worker/copy/window.h"

#define KIB UINT64_C(1024)
#define SECOND INT64_C(1000000)

/* Against a map with one byte a KiB: a piece of the 64 KiB grid is a hole only when all of it (inside the
 * range) is. */
static void segments_follow_the_grid(void **state)
{
    (void)state;
    enum { UNITS = 2048, PIECE = 64 };
    g_autoptr(GRand) rand = g_rand_new_with_seed(5);
    for (int run = 0; run < 200; run++) {
        uint8_t data[UNITS];
        g_autoptr(DroverAllocation) map = drover_allocation_new(0, UNITS * KIB);
        for (uint64_t at = 0; at < UNITS;) {
            uint64_t len = (uint64_t)g_rand_int_range(rand, 1, run % 2 ? 300 : 40);
            len = MIN(len, UNITS - at);
            bool hole = g_rand_boolean(rand);
            memset(data + at, !hole, len);
            drover_allocation_append(map, len * KIB, hole);
            at += len;
        }
        assert_true(drover_allocation_is_complete(map));
        uint64_t from = (uint64_t)g_rand_int_range(rand, 0, UNITS),
                 to = (uint64_t)g_rand_int_range(rand, (int)from + 1, UNITS + 1);
        DroverRange range = {from * KIB, (to - from) * KIB};
        g_autoptr(GArray) segments = g_array_new(FALSE, FALSE, sizeof(DroverSegment));
        drover_allocation_cut(map, &range, segments);

        uint64_t at = range.offset;
        for (guint i = 0; i < segments->len; i++) {
            const DroverSegment *segment = &g_array_index(segments, DroverSegment, i);
            assert_int_equal(segment->offset, at);
            assert_true(segment->length > 0);
            assert_true(i == 0 || segment->hole != g_array_index(segments, DroverSegment, i - 1).hole);
            at += segment->length;
            assert_true(at == range.offset + range.length || at % DROVER_LEAF_BYTES == 0);
            for (uint64_t unit = segment->offset / KIB; unit < at / KIB; unit++) {
                uint64_t first = MAX(unit / PIECE * PIECE, from), last = MIN((unit / PIECE + 1) * PIECE, to);
                bool any = memchr(data + first, 1, last - first) != NULL;
                assert_int_equal(segment->hole, !any);
            }
        }
        assert_int_equal(at, range.offset + range.length);
    }
}

static void answers_beyond_the_region_are_cut(void **state)
{
    (void)state;
    g_autoptr(DroverAllocation) map = drover_allocation_new(64 * KIB, 128 * KIB);
    drover_allocation_append(map, UINT64_C(1) << 40, true);
    assert_true(drover_allocation_is_complete(map));
    drover_allocation_append(map, 1, false);
    assert_int_equal(map->runs->len, 1);
}

/* Takes as much as it may during SECONDS of a made-up clock; bytes a second. */
static double run_throttle(DroverThrottle *throttle, int64_t *now, int64_t span, uint64_t request)
{
    uint64_t bytes = 0;
    for (int64_t end = *now + span; *now < end;) {
        int64_t wait = drover_throttle_take(throttle, request, *now);
        if (wait == 0)
            bytes += request;
        else
            *now += wait;
    }
    return (double)bytes * (double)SECOND / (double)span;
}

static void the_rate_holds(void **state)
{
    (void)state;
    int64_t now = 1000 * SECOND;
    DroverThrottle throttle;
    drover_throttle_init(&throttle, 10000000, now);
    double rate = run_throttle(&throttle, &now, 10 * SECOND, 256 * KIB);
    assert_true(rate > 9.9e6 && rate < 10.3e6);
    /* Nothing is saved up while nobody takes. */
    now += 3600 * SECOND;
    rate = run_throttle(&throttle, &now, 10 * SECOND, 256 * KIB);
    assert_true(rate < 10.5e6);
    /* Changed while it runs, to less than one request a second. */
    drover_throttle_set(&throttle, 100000, 0, 0, now);
    rate = run_throttle(&throttle, &now, 100 * SECOND, 256 * KIB);
    assert_true(rate > 0.9e5 && rate < 1.1e5);
    drover_throttle_clear(&throttle);
}

static void a_grant_expires_to_its_floor(void **state)
{
    (void)state;
    int64_t now = 5 * SECOND;
    DroverThrottle throttle;
    drover_throttle_init(&throttle, DROVER_RATE_UNLIMITED, now);
    assert_int_equal(drover_throttle_take(&throttle, UINT64_C(1) << 40, now), 0);
    drover_throttle_set(&throttle, 50000000, 30 * SECOND, 1000000, now);
    double rate = run_throttle(&throttle, &now, 30 * SECOND, 64 * KIB);
    assert_true(rate > 49e6 && rate < 51e6);
    rate = run_throttle(&throttle, &now, 30 * SECOND, 64 * KIB);
    assert_true(rate > 0.9e6 && rate < 1.2e6);
    drover_throttle_set(&throttle, 1000000, SECOND, 0, now);
    run_throttle(&throttle, &now, 2 * SECOND, 64 * KIB);
    assert_true(drover_throttle_take(&throttle, 1, now + 1000 * SECOND) > 0);
    drover_throttle_clear(&throttle);
}

/* A path of RATE bytes a second and BASE_US latency: what the window settles at. */
static uint64_t settle(DroverWindow *window, double rate, int64_t base_us, int64_t *now)
{
    const uint64_t request = 256 * KIB;
    for (int i = 0; i < 400; i++) {
        /* One window a round trip, or as much of it as the path carries. */
        double carried = rate * (double)base_us / 1e6;
        uint64_t burst = (uint64_t)MIN((double)window->bytes, carried);
        uint64_t queueing = (uint64_t)((double)(window->bytes - burst) / rate * 1e6);
        int64_t step = base_us + (int64_t)queueing;
        *now += step;
        /* The first answer of a burst saw no queue. */
        drover_window_answered(window, request, (uint64_t)base_us, *now);
        for (uint64_t done = request; done < window->bytes; done += request)
            drover_window_answered(window, request, (uint64_t)step, *now);
    }
    return window->bytes;
}

static void the_window_follows_the_path(void **state)
{
    (void)state;
    const uint64_t floor = 4 * 1024 * KIB, limit = 64 * 1024 * KIB;
    int64_t now = SECOND;
    DroverWindow window;
    drover_window_init(&window, 2 * floor, floor, limit, now);
    assert_int_equal(window.bytes, 2 * floor);
    assert_int_equal(settle(&window, 1e8, 200, &now), floor);
    /* A fast path may have some milliseconds' worth in flight, whatever its latency. */
    uint64_t batch = settle(&window, 1e9, 200, &now);
    assert_true(batch >= 1e9 * DROVER_WINDOW_LEAST_US / 1e6 && batch <= 5e9 * DROVER_WINDOW_LEAST_US / 1e6);
    /* 1 GB/s with 100 ms needs 100 MB in flight: all that memory allows. */
    assert_int_equal(settle(&window, 1e9, 100000, &now), limit);
    /* 100 MB/s with 100 ms: 10 MB fill the path, twice that is asked for. */
    uint64_t bytes = settle(&window, 1e8, 100000, &now);
    assert_true(bytes > 10000000 && bytes < 45000000);
    /* And down again. */
    assert_int_equal(settle(&window, 1e8, 200, &now), floor);
    /* A server that refuses gets half as much, below the floor too, once for all refusals of a sample. */
    settle(&window, 1e9, 100000, &now);
    drover_window_refused(&window);
    drover_window_refused(&window);
    assert_int_equal(window.bytes, limit / 2);
    for (int i = 0; i < 20; i++) {
        now += SECOND;
        drover_window_refused(&window);
        drover_window_answered(&window, 256 * KIB, 100000, now);
    }
    assert_int_equal(window.bytes, DROVER_WINDOW_STEP_BYTES);
    /* And slowly all of it again. */
    settle(&window, 1e9, 100000, &now);
    assert_true(window.bytes < limit / 2);
    for (int i = 0; i < 4; i++)
        settle(&window, 1e9, 100000, &now);
    assert_int_equal(window.bytes, limit);
}

static void requests_follow_the_window_and_the_path(void **state)
{
    (void)state;
    const uint64_t largest = 512 * KIB, least = 64 * KIB;
    int64_t now = SECOND;
    DroverWindow window;
    drover_window_init(&window, 4096 * KIB, 1024 * KIB, 65536 * KIB, now);
    assert_int_equal(drover_window_request(&window, largest, least), largest); /* nothing is known yet */
    settle(&window, 1e8, 200, &now);
    assert_int_equal(drover_window_request(&window, largest, least), largest);
    settle(&window, 2e6, 200, &now); /* 200 kB in a tenth of a second */
    assert_int_equal(drover_window_request(&window, largest, least), 128 * KIB);
    assert_int_equal(drover_window_request(&window, largest, 256 * KIB), 256 * KIB);
    assert_int_equal(drover_window_request(&window, 192 * KIB, least), 192 * KIB); /* half of it is no multiple */
    settle(&window, 1e5, 200, &now);
    assert_int_equal(drover_window_request(&window, largest, least), least);
    settle(&window, 1e9, 200, &now);
    assert_int_equal(drover_window_request(&window, largest, least), largest);
    for (int i = 0; i < 20; i++) {
        now += SECOND / 10;
        drover_window_refused(&window);
        drover_window_answered(&window, 65536 * KIB, 100, now);
    }
    assert_int_equal(drover_window_request(&window, largest, least), least);
}

static void percentiles_are_right_within_ten_percent(void **state)
{
    (void)state;
    DroverLatency latency = {0};
    assert_int_equal(drover_latency_percentile(&latency, 50), 0);
    for (uint64_t i = 1; i <= 100000; i++)
        drover_latency_add(&latency, i);
    const unsigned percents[] = {1, 50, 95, 99, 100};
    for (size_t i = 0; i < G_N_ELEMENTS(percents); i++) {
        double exact = 1000.0 * percents[i], got = (double)drover_latency_percentile(&latency, percents[i]);
        assert_true(got >= exact * 0.99 && got <= exact * 1.13);
    }
    drover_latency_add(&latency, UINT64_MAX);
    drover_latency_add(&latency, 0);
    assert_true(drover_latency_percentile(&latency, 100) > 100000);
}

static void buffers_come_back(void **state)
{
    (void)state;
    g_autoptr(DroverPool) pool = drover_pool_new(65536, 3 * 65536 + 5);
    assert_int_equal(drover_pool_count(pool), 3);
    void *a = drover_pool_get(pool), *b = drover_pool_get(pool), *c = drover_pool_get(pool);
    assert_non_null(c);
    assert_null(drover_pool_get(pool));
    drover_pool_put(pool, b);
    assert_ptr_equal(drover_pool_get(pool), b);
    drover_pool_put(pool, NULL);
    drover_pool_put(pool, a);
    assert_int_equal(drover_pool_in_use(pool), 2);
}

static void endpoints_come_in_one_form(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverEndpoint) tcp =
        drover_endpoint_new(&(DroverCopyEndpoint){.uri = "nbd://[::1]:123/a%20b/c"}, &error);
    assert_non_null(tcp);
    assert_string_equal(tcp->host, "::1");
    assert_string_equal(tcp->port, "123");
    assert_string_equal(tcp->export_name, "a b/c");
    assert_string_equal(tcp->label, "nbd://[::1]:123/a b/c");
    g_autoptr(DroverEndpoint) port = drover_endpoint_new(&(DroverCopyEndpoint){.uri = "nbd://host"}, &error);
    assert_string_equal(port->port, "10809");
    assert_string_equal(port->export_name, "");
    g_autoptr(DroverEndpoint) socket =
        drover_endpoint_new(&(DroverCopyEndpoint){.uri = "nbd+unix:///x?socket=/tmp/a%26b"}, &error);
    assert_string_equal(socket->socket_path, "/tmp/a&b");
    assert_string_equal(socket->export_name, "x");

    g_autoptr(DroverEndpoint) door =
        drover_endpoint_new(&(DroverCopyEndpoint){.uri = "nbd+tls://d/x"}, &error);
    assert_string_equal(door->port, "443");
    assert_string_equal(door->label, "nbd+tls://d:443/x");
    assert_non_null(door->tls);
    g_autoptr(DroverEndpoint) nbds =
        drover_endpoint_new(&(DroverCopyEndpoint){.uri = "nbds://[::1]/x"}, &error);
    assert_string_equal(nbds->label, "nbds://[::1]:10809/x");
    assert_non_null(nbds->tls);
    assert_null(tcp->tls);

    const char *const bad[] = {"nbd://h/x?tls-certificates=/d",
                               "nbds://h/x?tls-psk-file=/f",
                               "nbds+unix:///x?socket=/s",
                               "nbd+unix:///x",
                               "http://h/",
                               "nbd:///x",
                               "nbd://u@h/x",
                               "plain",
                               "",
                               "nbd+unix:///?socket="};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        assert_null(drover_endpoint_new(&(DroverCopyEndpoint){.uri = bad[i]}, &error));
        assert_int_equal(error->code, DROVER_ERROR_PERMANENT);
        g_clear_error(&error);
    }
    assert_null(drover_endpoint_new(&(DroverCopyEndpoint){0}, &error));
}

static void the_token_stays_inside(void **state)
{
    (void)state;
    const char *token = "0123456789abcdef0123456789abcdef";
    DroverCopyEndpoint from = {
        .host = "h", .export_name = "migration-vol-7", .generation = 12, .token = token};
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverEndpoint) endpoint = drover_endpoint_new(&from, &error);
    assert_string_equal(endpoint->export_name, "migration-vol-7@12.0123456789abcdef0123456789abcdef");
    assert_null(strstr(endpoint->label, token));
    g_autofree char *text = g_strdup_printf("no export '%s'; token=%s", endpoint->export_name, token);
    g_autofree char *clean = drover_endpoint_clean(endpoint, text);
    assert_null(strstr(clean, "0123456789abcdef"));
    assert_non_null(strstr(clean, "migration-vol-7"));
    g_autofree char *uri = g_strdup_printf("nbd://h/migration-vol-7@12.%s", token);
    g_autoptr(DroverEndpoint) whole = drover_endpoint_new(&(DroverCopyEndpoint){.uri = uri}, &error);
    assert_null(strstr(whole->label, token));
    assert_non_null(strstr(whole->export_name, token));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segments_follow_the_grid),
        cmocka_unit_test(answers_beyond_the_region_are_cut),
        cmocka_unit_test(the_rate_holds),
        cmocka_unit_test(a_grant_expires_to_its_floor),
        cmocka_unit_test(the_window_follows_the_path),
        cmocka_unit_test(requests_follow_the_window_and_the_path),
        cmocka_unit_test(percentiles_are_right_within_ten_percent),
        cmocka_unit_test(buffers_come_back),
        cmocka_unit_test(endpoints_come_in_one_form),
        cmocka_unit_test(the_token_stays_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
