/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files as NBD exports: a private server child on a Unix socket in a private directory. The socket listens
 * before the child starts, so nobody waits for it. The child dies with the thread that started it.
 */
#ifndef DROVER_WORKER_DROVER_COPY_SERVE_H
#define DROVER_WORKER_DROVER_COPY_SERVE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct DroverServe DroverServe;

/* FORMAT "raw" is served by nbdkit, any other by qemu-nbd. CONNECTIONS: how many clients at once. */
DroverServe *drover_serve_start(const char *path, const char *format, bool writable, unsigned connections,
                                GError **error);
const char *drover_serve_socket(const DroverServe *serve);
void drover_serve_stop(
    DroverServe *serve); /* ends the child, waits for it, removes the socket; NULL is allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverServe, drover_serve_stop)

/*
 * Makes the raw file PATH at least SIZE bytes long: creates it when it is missing (*CREATED: it reads as
 * zero), extends a regular file, leaves a device alone. Never shrinks.
 */
bool drover_serve_prepare(const char *path, uint64_t size, bool *created, GError **error);

#endif
