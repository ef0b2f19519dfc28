/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which process of an agent's name on this machine the NBD server belongs to: the last one that claimed it. A process that was
 * replaced, and does not know it yet, must not start an NBD server any more, nor remove the socket of the new one.
 */
#ifndef DROVER_VOLUME_AGENT_EXPORT_OWNER_H
#define DROVER_VOLUME_AGENT_EXPORT_OWNER_H

#include <stdbool.h>

/* Both lock PATH and return a descriptor that holds the lock until it is closed; may block for the blink of an eye while another
 * process starts or ends its server. -1: cannot be locked, or (owner_lock) somebody else than TOKEN has claimed it since. */
int drover_owner_claim(const char *path, const char *token);
int drover_owner_lock(const char *path, const char *token);

#endif
