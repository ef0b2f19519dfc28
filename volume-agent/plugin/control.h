/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The private control socket between the volume agent and its nbdkit: a Unix stream socket, mode 0600, one request a
 * line, one answer a request, in order.
 *
 *   ping                                                     -> ok
 *   open VOLUME GENERATION TOKEN MINIMUM_SIZE PATH           -> ok | error ERRNO TEXT
 *   close VOLUME GENERATION                                  -> ok          (when no write is in flight any more)
 *   stat                                                     -> one line an export (see exports_print), then ok
 * Numbers are decimal; PATH is the rest of the line. Several connections may be open; a line is at most 8 KiB.
 */
#ifndef DROVER_VOLUME_AGENT_PLUGIN_CONTROL_H
#define DROVER_VOLUME_AGENT_PLUGIN_CONTROL_H

/* Binds PATH (an old socket there is replaced) and serves it in threads of its own. 0 or an errno. */
int control_start(const char *path);

/* Takes the socket away. */
void control_stop(void);

#endif
