/* SPDX-License-Identifier: Apache-2.0 */
/* Whole sessions against a TLS server in this process: tickets, backpressure both ways, silence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/tls/internal.h"
#include "tests/unit/tls/peer.h"

#define MIB (UINT64_C(1) << 20)
#define PATIENCE_S 60

static DroverTlsClient *new_client(const Peer *peer, DroverTlsMode mode)
{
    const DroverTlsSettings settings = {.ca_file = peer->ca_file, .name = "localhost"};
    DroverTlsClient *client = drover_tls_client_new(mode, NULL, 0, peer->socket_path, &settings, NULL);
    assert_non_null(client);
    return client;
}

static bool wait_fd(int fd, short events, int ms)
{
    struct pollfd p = {.fd = fd, .events = events};
    return poll(&p, 1, ms) == 1;
}

/* A session whose greeting was read: by then the server's tickets are here, too. */
static DroverTlsSession *greeted(DroverTlsClient *client, int *fd)
{
    g_autoptr(GError) error = NULL;
    DroverTlsSession *session = drover_tls_session_new(client, &error);
    assert_non_null(session);
    assert_true(wait_fd(drover_tls_session_event_fd(session), POLLIN, PATIENCE_S * 1000));
    *fd = drover_tls_session_take_fd(session, &error);
    if (*fd == -1)
        fail_msg("%s", error->message);
    char greeting[PEER_GREETING_BYTES];
    assert_true(wait_fd(*fd, POLLIN, PATIENCE_S * 1000));
    assert_int_equal(recv(*fd, greeting, sizeof greeting, 0), sizeof greeting);
    assert_memory_equal(greeting, PEER_GREETING, sizeof greeting);
    return session;
}

static DroverTlsStats connect_once(DroverTlsClient *client)
{
    int fd;
    DroverTlsSession *session = greeted(client, &fd);
    close(fd);
    drover_tls_session_free(session, true);
    DroverTlsStats stats;
    drover_tls_client_stats(client, &stats);
    return stats;
}

static void test_tickets_of_the_same_files_are_used_once(void **state)
{
    (void)state;
    Peer *peer = peer_start(PEER_TAKES);
    atomic_store(&peer->go, true);
    g_autoptr(DroverTlsClient) client = new_client(peer, DROVER_TLS_DIRECT);
    DroverTlsStats stats = connect_once(client);
    assert_int_equal(stats.handshakes, 1);
    assert_int_equal(stats.resumed, 0);
    assert_string_equal(stats.version, "TLSv1.3");
    assert_true(g_queue_get_length(&client->tickets) >= 1);
    stats = connect_once(client);
    assert_int_equal(stats.resumed, 1);
    /* Another authority's file: what was verified with the old one does not count. */
    peer_renew_ca(peer);
    stats = connect_once(client);
    assert_int_equal(stats.handshakes, 3);
    assert_int_equal(stats.resumed, 1);
    stats = connect_once(client);
    assert_int_equal(stats.resumed, 2);

    g_autofree char *files = drover_tls_context_files(client);
    guint n = g_queue_get_length(&client->tickets);
    SSL_SESSION *first = drover_tls_client_take_ticket(client, files);
    assert_non_null(first);
    assert_int_equal(g_queue_get_length(&client->tickets), n - 1);
    SSL_SESSION *second = drover_tls_client_take_ticket(client, files);
    assert_ptr_not_equal(first, second);
    SSL_SESSION_free(first);
    SSL_SESSION_free(second);
    peer_stop(peer);
}

static void test_tickets_do_not_pile_up(void **state)
{
    (void)state;
    Peer *peer = peer_start(PEER_TAKES);
    g_autoptr(DroverTlsClient) client = new_client(peer, DROVER_TLS_DIRECT);
    for (unsigned i = 0; i < 100; i++)
        drover_tls_client_add_ticket(client, "files", SSL_SESSION_new());
    assert_true(g_queue_get_length(&client->tickets) <= 32);
    assert_null(drover_tls_client_take_ticket(client, "files")); /* none of them is good for anything */
    assert_int_equal(g_queue_get_length(&client->tickets), 0);
    drover_tls_client_add_ticket(client, "files", SSL_SESSION_new());
    assert_null(drover_tls_client_take_ticket(client, "others"));
    assert_int_equal(g_queue_get_length(&client->tickets), 0);
    peer_stop(peer);
}

/* Waits until *COUNT no longer rises. */
static uint64_t settled(_Atomic uint64_t *count)
{
    uint64_t last = 0;
    for (unsigned i = 0, same = 0; i < PATIENCE_S * 10 && same < 5; i++) {
        uint64_t now = atomic_load(count);
        same = now == last && now > 0 ? same + 1 : 0;
        last = now;
        g_usleep(100000);
    }
    return last;
}

/* A server that takes nothing: what is written is held up, not kept. Afterwards nothing is missing. */
static void test_a_stalled_server_holds_the_writer_up(void **state)
{
    (void)state;
    Peer *peer = peer_start(PEER_TAKES);
    g_autoptr(DroverTlsClient) client = new_client(peer, DROVER_TLS_DIRECT);
    int fd;
    DroverTlsSession *session = greeted(client, &fd);
    uint64_t written = 0;
    uint8_t bytes[65536];
    for (bool resumed = false; written < 64 * MIB;) {
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = PEER_BYTE(written + i);
        ssize_t n = send(fd, bytes, sizeof bytes, MSG_NOSIGNAL);
        if (n > 0) {
            written += (uint64_t)n;
        } else if (errno == EAGAIN && !wait_fd(fd, POLLOUT, resumed ? PATIENCE_S * 1000 : 500)) {
            assert_false(resumed);
            assert_true(written < 4 * MIB); /* sockets' and session's buffers, whatever is written */
            assert_int_equal(atomic_load(&peer->got), 0);
            resumed = true;
            atomic_store(&peer->go, true);
        } else {
            assert_int_equal(errno, EAGAIN);
        }
    }
    assert_true(atomic_load(&peer->go)); /* it did stall */
    shutdown(fd, SHUT_WR);
    assert_int_equal(settled(&peer->got), written);
    assert_false(atomic_load(&peer->wrong));
    close(fd);
    drover_tls_session_free(session, true);
    peer_stop(peer);
}

/* A caller that takes nothing: the server is held up. */
static void test_a_stalled_caller_holds_the_server_up(void **state)
{
    (void)state;
    Peer *peer = peer_start(PEER_FLOODS);
    peer->flood = 32 * MIB;
    g_autoptr(DroverTlsClient) client = new_client(peer, DROVER_TLS_DIRECT);
    int fd;
    DroverTlsSession *session = greeted(client, &fd);
    assert_true(settled(&peer->sent) < 4 * MIB);
    uint8_t bytes[65536];
    uint64_t at = 0;
    while (wait_fd(fd, POLLIN, PATIENCE_S * 1000)) {
        ssize_t n = recv(fd, bytes, sizeof bytes, 0);
        assert_true(n >= 0);
        if (n == 0)
            break;
        for (ssize_t i = 0; i < n; i++)
            assert_int_equal(bytes[i], PEER_BYTE(at + (uint64_t)i));
        at += (uint64_t)n;
    }
    assert_int_equal(at, peer->flood);
    close(fd);
    drover_tls_session_free(session, true);
    peer_stop(peer);
}

/* NBD_OPT_STARTTLS without an answer: the session says what it waits for, and ends when it is told to. */
static void test_no_answer_to_starttls(void **state)
{
    (void)state;
    Peer *peer = peer_start(PEER_SILENT);
    g_autoptr(DroverTlsClient) client = new_client(peer, DROVER_TLS_STARTTLS);
    DroverTlsSession *session = drover_tls_session_new(client, NULL);
    assert_non_null(session);
    for (unsigned i = 0; i < PATIENCE_S * 100 && atomic_load(&peer->got) < 20; i++)
        g_usleep(10000);
    assert_int_equal(atomic_load(&peer->got), 20); /* flags and the option, and nothing more */
    assert_string_equal(drover_tls_session_waits_for(session), "an answer to NBD_OPT_STARTTLS");
    assert_false(wait_fd(drover_tls_session_event_fd(session), POLLIN, 100));
    drover_tls_session_free(session, false);
    assert_int_equal(atomic_load(&peer->got), 20);
    peer_stop(peer);
}

static void test_what_cannot_be(void **state)
{
    (void)state;
    const DroverTlsSettings nameless = {.name = ""}, keyless = {.key_file = "/key", .name = "x"};
    g_autoptr(GError) error = NULL;
    assert_null(drover_tls_client_new(DROVER_TLS_DIRECT, NULL, 0, "/socket", &nameless, &error));
    assert_int_equal(drover_error_class(error), DROVER_ERROR_PERMANENT);
    g_clear_error(&error);
    assert_null(drover_tls_client_new(DROVER_TLS_DIRECT, "host", 1, NULL, &keyless, &error));
    assert_int_equal(drover_error_class(error), DROVER_ERROR_PERMANENT);
    g_clear_error(&error);
    const DroverTlsSettings settings = {.name = "x"};
    g_autoptr(DroverTlsClient) client = drover_tls_client_new(DROVER_TLS_DIRECT, NULL, 0, "/nowhere/socket", &settings, &error);
    DroverTlsSession *session = drover_tls_session_new(client, NULL);
    assert_true(wait_fd(drover_tls_session_event_fd(session), POLLIN, PATIENCE_S * 1000));
    assert_int_equal(drover_tls_session_take_fd(session, &error), -1);
    assert_int_equal(drover_error_class(error), DROVER_ERROR_RETRYABLE);
    assert_non_null(strstr(error->message, "/nowhere/socket"));
    drover_tls_session_free(session, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tickets_of_the_same_files_are_used_once),
        cmocka_unit_test(test_tickets_do_not_pile_up),
        cmocka_unit_test(test_a_stalled_server_holds_the_writer_up),
        cmocka_unit_test(test_a_stalled_caller_holds_the_server_up),
        cmocka_unit_test(test_no_answer_to_starttls),
        cmocka_unit_test(test_what_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
