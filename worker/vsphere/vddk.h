/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A child `nbdkit vddk` that serves one disk of one snapshot, read-only, on a private Unix socket. The password lies in
 * a memory file that only the child inherits: nothing of it is on a disk, in arguments or in the environment.
 *
 * nbdkit listens by itself (--unix) instead of by socket activation: its vddk plugin executes nbdkit once more, with a
 * library path for VDDK, and the second run would not find the activated socket.
 *
 * The child dies with the thread that started it: start it from one that lives as long.
 */
#ifndef DROVER_WORKER_VSPHERE_VDDK_H
#define DROVER_WORKER_VSPHERE_VDDK_H

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>

#include "worker/vsphere/vddk_words.h"

typedef struct DroverVddkChild DroverVddkChild;

/* Starts it with PARAMETERS, whose socket_path and password_file are set here. PASSWORD is copied. Does not wait. */
DroverVddkChild *drover_vddk_start(DroverVddkParameters *parameters, const char *password, const char *socket_dir,
                                   GError **error);
const char *drover_vddk_socket(const DroverVddkChild *child);
/* Connects as a client would until the child answers or ends, at most TIMEOUT_MS. */
bool drover_vddk_wait(DroverVddkChild *child, int timeout_ms, GCancellable *cancel, uint64_t *size_bytes,
                      bool *extents, GError **error);
/* DRV-SOURCE-CHILD (retryable) with its last words when it has ended. Does not block. */
bool drover_vddk_alive(DroverVddkChild *child, GError **error);
/* Ends it (SIGTERM, SIGKILL after two seconds), reaps it, removes the socket. NULL is allowed. */
void drover_vddk_stop(DroverVddkChild *child);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverVddkChild, drover_vddk_stop)

#endif
