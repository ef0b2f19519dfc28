/* SPDX-License-Identifier: Apache-2.0 */
/* For both ends of the socket between the agent and its nbdkit; without GLib, which the plugin does not use. */
#ifndef DROVER_VOLUME_AGENT_EXPORT_SEND_ALL_H
#define DROVER_VOLUME_AGENT_EXPORT_SEND_ALL_H

#include <stdbool.h>
#include <stddef.h>

/* Blocks until all LEN bytes are sent. False, with errno, when the connection broke; never SIGPIPE. */
bool drover_send_all(int fd, const char *text, size_t len);

#endif
