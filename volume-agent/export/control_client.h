/* SPDX-License-Identifier: Apache-2.0 */
/* One request to the plugin's control socket (volume-agent/plugin/control.h). Blocks until it is answered. */
#ifndef DROVER_VOLUME_AGENT_EXPORT_CONTROL_CLIENT_H
#define DROVER_VOLUME_AGENT_EXPORT_CONTROL_CLIENT_H

#include <glib.h>
#include <stdbool.h>

/*
 * Sends REQUEST (one line, without its end). *ANSWER gets the lines before the final "ok", newly allocated; may be NULL.
 * *REFUSED gets the errno of an "error" answer. Errors: RETRYABLE when nbdkit does not answer (*REFUSED 0), else by what
 * the errno means. The request never appears in an error: it may hold a token.
 */
bool drover_control_request(const char *socket_path, const char *request, char **answer, int *refused, GError **error);

#endif
