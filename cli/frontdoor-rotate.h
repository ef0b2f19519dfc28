/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hands a renewed certificate to a running HAProxy over its admin socket: new connections use it, open ones
 * stay. The authority is not handed over: once HAProxy 2.6 has committed a CA file it forgets where its
 * certificates are used, and takes no later one up. A reload (SIGUSR2 to the master) does it, which keeps
 * open connections, too.
 */
#ifndef DROVER_CLI_FRONTDOOR_ROTATE_H
#define DROVER_CLI_FRONTDOOR_ROTATE_H

#include <glib.h>
#include <stdbool.h>

/*
 * Sends the content of CERTIFICATE (key and certificate), known to HAProxy under that same path. Blocks.
 * RETRYABLE when HAProxy does not answer, PERMANENT when it refuses; then it goes on with what it had.
 */
bool drover_frontdoor_rotate(const char *admin_socket, const char *certificate, GError **error);

/* *SAME: HAProxy trusts the certificates that are in the file AUTHORITY now. Errors as above. */
bool drover_frontdoor_trusts(const char *admin_socket, const char *authority, bool *same, GError **error);

#endif
