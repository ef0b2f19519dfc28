/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A qemu-nbd child that serves one open file, read-only, on a private Unix socket. The socket is bound and listening
 * before the child starts (systemd's socket activation), so nobody waits for a start-up by time: a client's connect
 * succeeds at once and its handshake either completes or fails with the child. The child gets the open file itself,
 * not its name, so a renamed file changes nothing.
 *
 * The child dies with the thread that started it (PR_SET_PDEATHSIG): start it from one that lives as long.
 */
#ifndef DROVER_WORKER_SOURCE_CHILD_H
#define DROVER_WORKER_SOURCE_CHILD_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct DroverNbdChild DroverNbdChild;

/*
 * FD is an open image (stays the caller's), FORMAT its qemu name, CONNECTIONS how many clients at once (more than one
 * is what makes QEMU offer multi-conn), SOCKET_DIR a private directory. Does not wait for the child to be ready.
 */
DroverNbdChild *drover_nbd_child_start(int fd, const char *format, unsigned connections, const char *socket_dir,
                                       GError **error);

const char *drover_nbd_child_socket(const DroverNbdChild *child);

/*
 * Connects once, as a client would, and asks for the size. Blocks until the child answers or ends, at most
 * TIMEOUT_MS. The error carries what the child said: DRV-SOURCE-BUSY when another program holds the image,
 * DRV-SOURCE-CHILD (retryable) when the program is missing or slow, DRV-SOURCE-FORMAT when QEMU refuses the image.
 */
bool drover_nbd_child_size(DroverNbdChild *child, int timeout_ms, uint64_t *size_bytes, GError **error);

/* DRV-SOURCE-CHILD (retryable) with what the child said, when it has ended. Does not block. */
bool drover_nbd_child_alive(DroverNbdChild *child, GError **error);

/* Ends the child (SIGTERM, then SIGKILL after a second), reaps it, removes the socket. NULL is allowed. */
void drover_nbd_child_stop(DroverNbdChild *child);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverNbdChild, drover_nbd_child_stop)

/* Class and code for what QEMU's tools say about an image when they fail. Always returns false. */
bool drover_qemu_failed(GError **error, const char *program, const char *output);

#endif
