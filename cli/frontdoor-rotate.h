/* SPDX-License-Identifier: Apache-2.0 */
/* Hands renewed certificates to a running HAProxy over its admin socket: new connections use them, old ones stay. */
#ifndef DROVER_CLI_FRONTDOOR_ROTATE_H
#define DROVER_CLI_FRONTDOOR_ROTATE_H

#include <glib.h>
#include <stdbool.h>

/*
 * Sends the content of FILE, known to HAProxy under that same path. KIND: "cert" (key and certificate) or "ca-file".
 * Blocks. RETRYABLE when HAProxy does not answer, PERMANENT when it refuses; then it goes on with what it had.
 */
bool drover_frontdoor_rotate(const char *admin_socket, const char *kind, const char *file, GError **error);

#endif
