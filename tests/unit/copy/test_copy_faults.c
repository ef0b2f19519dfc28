/* SPDX-License-Identifier: Apache-2.0 */
/* The engine when servers fail: killed, stalled, out of space, broken by one region; and when its caller
 * wants it to end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#include "tests/unit/copy/server.h"

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define CELL DROVER_CELL_BYTES

/* A run in a thread of its own, and what it tells. */
typedef struct {
    DroverCopy *copy;
    GThread *thread;
    DroverCopyResult result;
    GError *error;
    bool ok;
    atomic_uint cells;          /* reported */
    _Atomic uint64_t in_flight; /* bytes written and not reported, at the last progress */
    atomic_uint reconnects;
    atomic_bool fenced;
    atomic_bool refuse; /* on_cells_done fails */
    atomic_bool hold;   /* on_cells_done waits */
} Run;

static bool cells_done(void *data, const DroverCopyCell *cells, size_t n, GError **error)
{
    (void)cells;
    Run *run = data;
    while (atomic_load(&run->hold))
        g_usleep(1000);
    if (atomic_load(&run->refuse))
        return drover_fail(error, DROVER_ERROR_FATAL, "no checkpoints today");
    atomic_fetch_add(&run->cells, (unsigned)n);
    return true;
}

static void progressed(void *data, const DroverCopyProgress *progress)
{
    Run *run = data;
    atomic_store(&run->in_flight, progress->in_flight_bytes);
    atomic_store(&run->reconnects, progress->reconnects);
}

static bool is_fenced(void *data)
{
    return atomic_load(&((Run *)data)->fenced);
}

static gpointer run_thread(gpointer data)
{
    Run *run = data;
    run->ok = drover_copy_run(run->copy, &run->result, &run->error);
    return NULL;
}

static void begin(Run *run, const Server *source, const Server *target, DroverCopyParams params)
{
    params.source = server_endpoint(source);
    params.target = server_endpoint(target);
    params.digest = DROVER_DIGEST_XXH3;
    params.progress_interval_ms = 20;
    params.callbacks = (DroverCopyCallbacks){
        .data = run, .on_cells_done = cells_done, .on_progress = progressed, .is_fenced = is_fenced};
    run->copy = drover_copy_new(&params, &run->error);
    assert_non_null(run->copy);
    run->thread = g_thread_new("run", run_thread, run);
}

static void finish(Run *run)
{
    g_thread_join(run->thread);
    drover_copy_free(run->copy);
}

static void succeed(Run *run)
{
    finish(run);
    if (!run->ok)
        fail_msg("%s", run->error->message);
    assert_true(run->result.complete);
}

static void must_fail(Run *run, DroverErrorClass error_class, const char *text)
{
    finish(run);
    assert_false(run->ok);
    if (run->error->code != (int)error_class || strstr(run->error->message, text) == NULL)
        fail_msg("class %d: %s", run->error->code, run->error->message);
    assert_false(run->result.complete);
    g_clear_error(&run->error);
}

/* One step of waiting for an event; far later than it can take, even on a busy machine, the test fails. */
static void wait_a_little(int64_t since_us, const char *what)
{
    if (g_get_monotonic_time() - since_us > 60 * G_USEC_PER_SEC)
        fail_msg("%s did not happen", what);
    g_usleep(1000);
}

static void wait_for_bytes(Run *run, uint64_t bytes)
{
    int64_t since_us = g_get_monotonic_time();
    while (atomic_load(&run->in_flight) + atomic_load(&run->cells) * CELL < bytes)
        wait_a_little(since_us, "progress");
}

static void wait_for_reconnects(Run *run, unsigned n)
{
    int64_t since_us = g_get_monotonic_time();
    while (atomic_load(&run->reconnects) < n)
        wait_a_little(since_us, "a reconnect");
}

static void assert_same(const Server *source, const Server *target)
{
    size_t a_len, b_len;
    g_autofree uint8_t *a = server_read(source, &a_len), *b = server_read(target, &b_len);
    assert_int_equal(a_len, b_len);
    assert_memory_equal(a, b, a_len);
}

static void killed_servers_come_back(void **state)
{
    (void)state;
    uint64_t size = 4 * CELL;
    g_autoptr(Server) source = server_new("source", size), target = server_new("target", size);
    server_fill(source, MIB, 80, 1);
    server_fill(target, MIB, 100, 2);
    server_start(source, "-r", "");
    server_start(target, "", "");
    Run run = {0};
    begin(&run, source, target, (DroverCopyParams){.rate_bytes_per_second = 80 * MIB});
    for (unsigned i = 0; i < 3; i++) {
        wait_for_bytes(&run, (i + 1) * size / 5);
        Server *victim = i == 1 ? source : target;
        server_kill(victim);
        server_restart(victim);
    }
    succeed(&run);
    assert_same(source, target);
    assert_true(run.result.reconnects >= 3);
    assert_true(run.result.counts.resent_bytes > 0);
    assert_true(run.result.counts.resent_bytes <= 2 * 64 * MIB);
    assert_int_equal(run.result.cells_done, 4);
}

static void a_stalled_target_is_given_up_and_found_again(void **state)
{
    (void)state;
    uint64_t size = 2 * CELL;
    g_autoptr(Server) source = server_new("source", size), target = server_new("target", size);
    server_fill(source, MIB, 100, 3);
    server_start(source, "-r", "");
    server_start(target, "", "");
    Run run = {0};
    begin(&run, source, target,
          (DroverCopyParams){
              .rate_bytes_per_second = 30 * MIB, .stall_deadline_ms = 1000, .flush_deadline_ms = 20000});
    wait_for_bytes(&run, size / 8);
    server_signal(target, SIGSTOP);
    wait_for_reconnects(&run, 1);
    server_signal(target, SIGCONT);
    succeed(&run);
    assert_same(source, target);
}

/* Storage that hangs behind a server that lives: no endless circle of reconnects, and worth another try later. */
static void hanging_storage_ends_as_retryable(void **state)
{
    (void)state;
    static const struct {
        const char *source, *target, *text;
        bool region;
    } cases[] = {
        {"-r --filter=noextents --filter=delay file %s rdelay=3600", "file %s", "DRV-SOURCE-READ", true},
        {"-r file %s", "--filter=delay file %s wdelay=3600", "DRV-TARGET-WRITE", true},
        {"-r file %s",
         "eval get_size='echo 2097152' can_write='exit 0' can_flush='exit 0' thread_model='echo parallel' pread='exit 1' "
         "pwrite='cat >/dev/null' flush='sleep 5'",
         "DRV-TARGET-FLUSH", false},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(Server) source = server_new("source", 2 * MIB), target = server_new("target", 2 * MIB);
        server_fill(source, MIB, 100, 3);
        server_start_command(source, cases[i].source);
        server_start_command(target, cases[i].target);
        Run run = {0};
        begin(&run, source, target, (DroverCopyParams){.stall_deadline_ms = 200, .flush_deadline_ms = 200});
        must_fail(&run, DROVER_ERROR_RETRYABLE, cases[i].text);
        assert_int_equal(run.result.failed_range.length > 0, cases[i].region);
        assert_true(run.result.reconnects >= 3);
    }
}

/* A source that answers reads but no question for its holes is read as a whole. */
static void holes_that_are_never_told_are_read(void **state)
{
    (void)state;
    g_autoptr(Server) source = server_new("source", CELL), target = server_new("target", CELL);
    server_fill(source, MIB, 30, 3);
    server_fill(target, MIB, 100, 4);
    server_start(source, "-r --filter=delay", "delay-extents=3600");
    server_start(target, "", "");
    Run run = {0};
    begin(&run, source, target, (DroverCopyParams){.stall_deadline_ms = 200});
    succeed(&run);
    assert_same(source, target);
    assert_false(run.result.extents_available);
    assert_int_equal(run.result.reconnects, 2);
}

static void a_lost_target_ends_at_the_deadline(void **state)
{
    (void)state;
    g_autoptr(Server) source = server_new("source", 2 * CELL), target = server_new("target", 2 * CELL);
    server_fill(source, MIB, 100, 4);
    server_start(source, "-r", "");
    server_start(target, "", "");
    Run run = {0};
    begin(&run, source, target,
          (DroverCopyParams){.rate_bytes_per_second = 30 * MIB, .reconnect_deadline_ms = 300});
    wait_for_bytes(&run, MIB);
    server_kill(target);
    must_fail(&run, DROVER_ERROR_RETRYABLE, "DRV-COPY-LOST");

    Run never = {0};
    begin(&never, source, target, (DroverCopyParams){.connect_deadline_ms = 200});
    must_fail(&never, DROVER_ERROR_RETRYABLE, "DRV-COPY-CONNECT");
}

static void only_the_caller_can_say_fenced(void **state)
{
    (void)state;
    g_autoptr(Server) source = server_new("source", 2 * CELL), target = server_new("target", 2 * CELL);
    server_fill(source, MIB, 100, 4);
    server_start(source, "-r", "");
    server_start(target, "", "");
    Run run = {0};
    begin(&run, source, target, (DroverCopyParams){.rate_bytes_per_second = 30 * MIB});
    wait_for_bytes(&run, MIB);
    atomic_store(&run.fenced, true);
    server_kill(target);
    must_fail(&run, DROVER_ERROR_FENCED, "DRV-FENCED");
}

static void a_target_that_is_another_after_a_restart(void **state)
{
    (void)state;
    g_autoptr(Server) source = server_new("source", 2 * CELL), target = server_new("target", 2 * CELL);
    server_fill(source, MIB, 100, 4);
    server_start(source, "-r", "");
    server_start(target, "", "");
    Run run = {0};
    begin(&run, source, target, (DroverCopyParams){.rate_bytes_per_second = 30 * MIB});
    wait_for_bytes(&run, MIB);
    server_kill(target);
    server_start(target, "--filter=truncate", "truncate=50M");
    must_fail(&run, DROVER_ERROR_PERMANENT, "DRV-TARGET-CHANGED");
}

/* What a server's error means; SOURCE and TARGET are nbdkit command lines. */
static void error_case(const char *source_command, const char *target_command, DroverErrorClass error_class,
                       const char *text, bool region)
{
    g_autoptr(Server) source = server_new("source", CELL + 8 * MIB),
                      target = server_new("target", CELL + 8 * MIB);
    server_fill(source, MIB, 100, 5);
    server_start_command(source, source_command);
    server_start_command(target, target_command);
    Run run = {0};
    begin(&run, source, target, (DroverCopyParams){0});
    must_fail(&run, error_class, text);
    assert_int_equal(run.result.failed_range.length > 0, region);
    assert_int_equal(run.result.flush_failed, strstr(text, "FLUSH") != NULL);
}

static void errors_are_told_apart(void **state)
{
    (void)state;
    error_case("-r --filter=error file %s error-pread=EIO error-pread-rate=100%", "file %s",
               DROVER_ERROR_PERMANENT, "DRV-SOURCE-READ", true);
    error_case("-r file %s", "--filter=error file %s error-pwrite=ENOSPC error-pwrite-rate=100%",
               DROVER_ERROR_PERMANENT, "DRV-TARGET-NO-SPACE", true);
    error_case("-r file %s", "--filter=error file %s error-pwrite=EPERM error-pwrite-rate=100%",
               DROVER_ERROR_PERMANENT, "DRV-TARGET-READ-ONLY", true);
    error_case("-r file %s", "--filter=error file %s error-pwrite=EIO error-pwrite-rate=100%",
               DROVER_ERROR_PERMANENT, "DRV-TARGET-WRITE", true);
    error_case("-r file %s",
               "eval get_size='echo 41943040' can_write='exit 0' can_flush='exit 0' pread='dd if=/dev/zero "
               "bs=$3 count=1' "
               "pwrite='cat >/dev/null' flush='echo EIO >&2; exit 1'",
               DROVER_ERROR_RETRYABLE, "DRV-TARGET-FLUSH", false);
}

static void now_and_then_an_error_is_ridden_out(void **state)
{
    (void)state;
    g_autoptr(Server) source = server_new("source", CELL), target = server_new("target", CELL);
    server_fill(source, MIB, 90, 6);
    server_fill(target, MIB, 100, 7);
    server_start(source, "-r --filter=error",
                 "error-pread=EIO error-pread-rate=4% error-extents=EIO error-extents-rate=100%");
    server_start(target, "--filter=error",
                 "error-pwrite=EIO error-pwrite-rate=4% error-zero=EIO error-zero-rate=10%");
    Run run = {0};
    begin(&run, source, target, (DroverCopyParams){0});
    succeed(&run);
    assert_same(source, target);
    assert_false(run.result.extents_available);
}

/* A source that serves two reads at a time and refuses the others, as an ESXi host without NFC memory: asked for less,
 * it serves all of them. */
static void a_source_that_has_too_much_to_do_is_asked_for_less(void **state)
{
    (void)state;
    g_autoptr(Server) source = server_new("source", CELL), target = server_new("target", CELL);
    server_fill(source, MIB, 100, 6);
    server_start_command(source,
                         "eval get_size='echo 33554432' thread_model='echo parallel' can_multi_conn='exit 0' "
                         "pread='for s in 1 2; do if mkdir $tmpdir/s$s 2>/dev/null; then "
                         "dd if=%s bs=1M iflag=skip_bytes,count_bytes skip=$4 count=$3 2>/dev/null; sleep 0.02; "
                         "rmdir $tmpdir/s$s; exit 0; fi; done; echo ENOMEM no NFC memory >&2; exit 1'");
    server_start(target, "", "");
    Run run = {0};
    begin(&run, source, target, (DroverCopyParams){0});
    succeed(&run);
    assert_same(source, target);
    assert_true(run.result.read_window_bytes[1] <= 3 * MIB);
}

/* A write into one region kills the server, every time; a server may die four times for other reasons. */
static void one_region_that_breaks_the_server_is_named(void **state)
{
    (void)state;
    uint64_t bad = 9 * MIB + 512 * KIB;
    g_autoptr(Server) source = server_new("source", 16 * MIB), target = server_new("target", 16 * MIB);
    server_fill(source, MIB, 100, 8);
    server_start(source, "-r", "");
    g_autofree char *command = g_strdup_printf(
        "eval get_size='echo 16777216' can_write='exit 0' can_flush='exit 0' flush='exit 0' "
        "thread_model='echo parallel' "
        "can_multi_conn='exit 0' pread='dd if=/dev/zero bs=$3 count=1' "
        "pwrite='cat >/dev/null; if [ $4 -eq %" G_GUINT64_FORMAT " ]; then kill -9 $PPID; fi'",
        bad);
    server_start_command(target, command);
    Run run = {0};
    begin(&run, source, target, (DroverCopyParams){.connections = 2});
    int64_t since_us = g_get_monotonic_time();
    for (unsigned deaths = 0; deaths < 5; wait_a_little(since_us, "the server's fifth death"))
        if (!server_is_running(target) && ++deaths < 5)
            server_restart(target);
    must_fail(&run, DROVER_ERROR_PERMANENT, "broke the connection five times");
    assert_int_equal(run.result.failed_range.offset, bad);
}

/* What was written but not flushed is read again after a loss; if it is not the same, somebody writes to the
 * source. */
static void a_source_that_changes_is_noticed(void **state)
{
    (void)state;
    g_autoptr(Server) source = server_new("source", 8 * MIB), target = server_new("target", 8 * MIB);
    server_fill(source, MIB, 100, 8);
    server_start(source, "-r", "");
    server_start_command(
        target,
        "eval get_size='echo 8388608' can_write='exit 0' can_flush='exit 0' can_zero='exit 0' "
        "thread_model='echo parallel' pread='exit 1' pwrite='cat >/dev/null' zero='exit 0' flush='sleep 60'");
    Run run = {0};
    begin(&run, source, target, (DroverCopyParams){0});
    wait_for_bytes(&run, 8 * MIB);
    g_usleep(50000);
    server_write(source, 5 * MIB, "changed", 7);
    server_kill(target);
    server_restart(target);
    must_fail(&run, DROVER_ERROR_PERMANENT, "DRV-SOURCE-CHANGED");
}

static void stopping_keeps_what_is_done(void **state)
{
    (void)state;
    uint64_t size = 4 * CELL;
    g_autoptr(Server) source = server_new("source", size), target = server_new("target", size);
    server_fill(source, MIB, 100, 9);
    server_start(source, "-r", "");
    server_start(target, "", "");
    Run run = {0};
    begin(&run, source, target, (DroverCopyParams){.rate_bytes_per_second = 100 * MIB});
    wait_for_bytes(&run, CELL + CELL / 2);
    drover_copy_stop(run.copy);
    must_fail(&run, DROVER_ERROR_RETRYABLE, "DRV-COPY-STOPPED");
    assert_true(run.result.cancelled);
    assert_true(run.result.cells_done >= 1 && run.result.cells_done < 4);
    assert_int_equal(atomic_load(&run.cells), run.result.cells_done);
    size_t len;
    g_autofree uint8_t *a = server_read(source, &len), *b = server_read(target, &len);
    assert_memory_equal(a, b, run.result.cells_done * CELL);
}

static void cancelling_ends_at_once(void **state)
{
    (void)state;
    g_autoptr(Server) source = server_new("source", 2 * CELL), target = server_new("target", 2 * CELL);
    server_fill(source, MIB, 100, 9);
    server_start(source, "-r --filter=delay", "rdelay=3600");
    server_start(target, "", "");
    Run run = {0};
    begin(&run, source, target, (DroverCopyParams){0});
    g_usleep(100000);
    drover_copy_cancel(run.copy);
    must_fail(&run, DROVER_ERROR_RETRYABLE, "DRV-COPY-STOPPED");
    assert_int_equal(run.result.cells_done, 0);
}

static void a_failed_checkpoint_ends_the_copy(void **state)
{
    (void)state;
    g_autoptr(Server) source = server_new("source", 2 * CELL), target = server_new("target", 2 * CELL);
    server_fill(source, MIB, 100, 10);
    server_start(source, "-r", "");
    server_start(target, "", "");
    Run run = {.refuse = true};
    begin(&run, source, target, (DroverCopyParams){0});
    must_fail(&run, DROVER_ERROR_FATAL, "no checkpoints today");
    assert_int_equal(run.result.cells_done, 0);
}

/* Nobody takes checkpoints: the copy runs into its limit and waits there. */
static void unreported_data_is_bounded(void **state)
{
    (void)state;
    uint64_t size = 5 * CELL;
    g_autoptr(Server) source = server_new("source", size), target = server_new("target", size);
    server_fill(source, 4 * MIB, 100, 11);
    server_start(source, "-r", "");
    server_start(target, "", "");
    Run run = {.hold = true};
    begin(&run, source, target, (DroverCopyParams){0});
    wait_for_bytes(&run, 64 * MIB);
    g_usleep(200000);
    size_t len;
    g_autofree uint8_t *bytes = server_read(target, &len);
    uint64_t written = 0;
    for (size_t at = 0; at < len; at += 64 * KIB)
        written += drover_is_zero(bytes + at, 64 * KIB) ? 0 : 64 * KIB;
    assert_int_equal(written, 64 * MIB);
    atomic_store(&run.hold, false);
    succeed(&run);
    assert_same(source, target);
}

int main(void)
{
    server_require();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_servers_come_back),
        cmocka_unit_test(a_stalled_target_is_given_up_and_found_again),
        cmocka_unit_test(hanging_storage_ends_as_retryable),
        cmocka_unit_test(holes_that_are_never_told_are_read),
        cmocka_unit_test(a_lost_target_ends_at_the_deadline),
        cmocka_unit_test(only_the_caller_can_say_fenced),
        cmocka_unit_test(a_target_that_is_another_after_a_restart),
        cmocka_unit_test(errors_are_told_apart),
        cmocka_unit_test(now_and_then_an_error_is_ridden_out),
        cmocka_unit_test(a_source_that_has_too_much_to_do_is_asked_for_less),
        cmocka_unit_test(one_region_that_breaks_the_server_is_named),
        cmocka_unit_test(a_source_that_changes_is_noticed),
        cmocka_unit_test(stopping_keeps_what_is_done),
        cmocka_unit_test(cancelling_ends_at_once),
        cmocka_unit_test(a_failed_checkpoint_ends_the_copy),
        cmocka_unit_test(unreported_data_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
