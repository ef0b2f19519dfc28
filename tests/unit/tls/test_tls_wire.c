/* SPDX-License-Identifier: Apache-2.0 */
/* The TCP side of a TLS session: writes are gathered, reads note what came first, failures are kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/tls/wire.h"

#define RECORD 16384

typedef struct {
    DroverTlsWire wire;
    BIO *bio;
    int peer;
} Setup;

static int set_up(void **state)
{
    Setup *s = g_new0(Setup, 1);
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    s->wire.fd = fds[0];
    s->peer = fds[1];
    s->bio = drover_tls_wire_bio(&s->wire);
    assert_non_null(s->bio);
    *state = s;
    return 0;
}

static int tear_down(void **state)
{
    Setup *s = *state;
    BIO_free(s->bio);
    drover_tls_wire_clear(&s->wire);
    close(s->wire.fd);
    if (s->peer != -1)
        close(s->peer);
    g_free(s);
    return 0;
}

static void test_writes_are_gathered(void **state)
{
    Setup *s = *state;
    char byte;
    assert_int_equal(BIO_write(s->bio, "one ", 4), 4);
    assert_int_equal(BIO_write(s->bio, "two", 3), 3);
    assert_int_equal(BIO_flush(s->bio), 1);
    assert_int_equal(recv(s->peer, &byte, 1, 0), -1); /* nothing before the pump says so */
    assert_int_equal(drover_tls_wire_flush(&s->wire), 1);
    char text[16] = "";
    assert_int_equal(recv(s->peer, text, sizeof text, 0), 7);
    assert_string_equal(text, "one two");
    assert_int_equal(drover_tls_wire_flush(&s->wire), 1);
}

/* Nothing is lost or turned round when the socket takes it in parts, and the buffer is used again. */
static void test_a_full_socket(void **state)
{
    Setup *s = *state;
    g_autofree uint8_t *sent = g_malloc(RECORD), *got = g_malloc(RECORD);
    uint64_t written = 0, read = 0, full = 0;
    for (unsigned round = 0; round < 200; round++) {
        for (unsigned i = 0; i < RECORD; i++)
            sent[i] = (uint8_t)((written + i) * 7 / 5);
        assert_int_equal(BIO_write(s->bio, sent, RECORD), RECORD);
        written += RECORD;
        int flushed = drover_tls_wire_flush(&s->wire);
        assert_true(flushed == 0 || flushed == 1);
        assert_int_equal(flushed == 1, s->wire.start == s->wire.end);
        if (flushed == 1)
            continue;
        full++;
        while (drover_tls_wire_flush(&s->wire) == 0)
            for (ssize_t n; (n = recv(s->peer, got, RECORD, 0)) > 0; read += (uint64_t)n)
                for (ssize_t i = 0; i < n; i++)
                    assert_int_equal(got[i], (uint8_t)((read + (uint64_t)i) * 7 / 5));
    }
    for (ssize_t n; (n = recv(s->peer, got, RECORD, 0)) > 0;)
        read += (uint64_t)n;
    assert_int_equal(read, written);
    assert_true(full > 0);
    assert_true(s->wire.capacity <= 4 * RECORD);
}

static void test_what_came_first(void **state)
{
    Setup *s = *state;
    char text[32] = "";
    assert_int_equal(BIO_read(s->bio, text, sizeof text), -1);
    assert_true(BIO_should_retry(s->bio));
    assert_int_equal(s->wire.error, 0);
    assert_int_equal(send(s->peer, "NBDM", 4, 0), 4);
    assert_int_equal(BIO_read(s->bio, text, sizeof text), 4);
    assert_false(drover_tls_wire_is_plain_nbd(&s->wire));
    assert_int_equal(send(s->peer, "AGICIHAVEOPT", 12, 0), 12);
    assert_int_equal(BIO_read(s->bio, text, sizeof text), 12);
    assert_true(drover_tls_wire_is_plain_nbd(&s->wire));
    assert_int_equal(BIO_eof(s->bio), 0);
    shutdown(s->peer, SHUT_WR);
    assert_int_equal(BIO_read(s->bio, text, sizeof text), 0);
    assert_false(BIO_should_retry(s->bio));
    assert_int_equal(BIO_eof(s->bio), 1);
}

static void test_tls_is_not_taken_for_nbd(void **state)
{
    Setup *s = *state;
    char text[32];
    assert_int_equal(send(s->peer, "\x16\3\3NBDMAGIC", 11, 0), 11);
    assert_int_equal(BIO_read(s->bio, text, sizeof text), 11);
    assert_false(drover_tls_wire_is_plain_nbd(&s->wire));
}

static void test_a_broken_socket(void **state)
{
    Setup *s = *state;
    close(s->peer);
    s->peer = -1;
    assert_int_equal(BIO_write(s->bio, "x", 1), 1);
    assert_int_equal(drover_tls_wire_flush(&s->wire), -1); /* and no SIGPIPE */
    assert_int_equal(s->wire.error, EPIPE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_writes_are_gathered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_full_socket, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_came_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tls_is_not_taken_for_nbd, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_broken_socket, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
