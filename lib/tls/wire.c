/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/tls/wire.h"

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>

static int on_write(BIO *bio, const char *bytes, int n)
{
    DroverTlsWire *wire = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (n <= 0)
        return 0;
    if (wire->start == wire->end)
        wire->start = wire->end = 0;
    if (wire->end + (size_t)n > wire->capacity) {
        wire->capacity = MAX(2 * wire->capacity, wire->end + (size_t)n);
        wire->out = g_realloc(wire->out, wire->capacity);
    }
    memcpy(wire->out + wire->end, bytes, (size_t)n);
    wire->end += (size_t)n;
    return n;
}

static int on_read(BIO *bio, char *bytes, int n)
{
    DroverTlsWire *wire = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    ssize_t got;
    do
        got = recv(wire->fd, bytes, (size_t)n, MSG_DONTWAIT);
    while (got == -1 && errno == EINTR);
    if (got == -1 && errno == EAGAIN)
        BIO_set_retry_read(bio);
    else if (got == -1)
        wire->error = errno;
    for (ssize_t i = 0; i < got && wire->n_first < sizeof wire->first; i++)
        wire->first[wire->n_first++] = (uint8_t)bytes[i];
    if (got == 0)
        wire->eof = true;
    return (int)got;
}

static long on_control(BIO *bio, int command, long number, void *pointer)
{
    const DroverTlsWire *wire = BIO_get_data(bio);
    (void)number;
    (void)pointer;
    if (command == BIO_CTRL_FLUSH)
        return 1; /* by the pump, in one go */
    if (command == BIO_CTRL_EOF)
        return wire->eof;
    return 0;
}

static gpointer make_method(gpointer data)
{
    (void)data;
    BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "drover wire");
    if (method == NULL || !BIO_meth_set_write(method, on_write) || !BIO_meth_set_read(method, on_read) ||
        !BIO_meth_set_ctrl(method, on_control))
        return NULL;
    return method;
}

BIO *drover_tls_wire_bio(DroverTlsWire *wire)
{
    static GOnce once = G_ONCE_INIT;
    const BIO_METHOD *method = g_once(&once, make_method, NULL);
    BIO *bio = method != NULL ? BIO_new(method) : NULL;
    if (bio == NULL)
        return NULL;
    BIO_set_data(bio, wire);
    BIO_set_init(bio, 1);
    return bio;
}

int drover_tls_wire_flush(DroverTlsWire *wire)
{
    while (wire->start < wire->end) {
        ssize_t n =
            send(wire->fd, wire->out + wire->start, wire->end - wire->start, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            wire->start += (size_t)n;
        } else if (n == -1 && errno == EAGAIN) {
            return 0;
        } else if (n == -1 && errno != EINTR) {
            wire->error = errno;
            return -1;
        }
    }
    return 1;
}

bool drover_tls_wire_is_plain_nbd(const DroverTlsWire *wire)
{
    return wire->n_first == sizeof wire->first && memcmp(wire->first, "NBDMAGIC", sizeof wire->first) == 0;
}

void drover_tls_wire_clear(DroverTlsWire *wire)
{
    g_clear_pointer(&wire->out, g_free);
    wire->start = wire->end = wire->capacity = 0;
}
