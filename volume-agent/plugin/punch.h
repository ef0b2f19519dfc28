/* SPDX-License-Identifier: Apache-2.0 */
/* Zeroes and holes by the device's or file system's own means, without writing data where that can be avoided. */
#ifndef DROVER_VOLUME_AGENT_PLUGIN_PUNCH_H
#define DROVER_VOLUME_AGENT_PLUGIN_PUNCH_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Makes LEN bytes from OFFSET of FD read as zero; MAY_FREE: the space may be given back. Returns 0, EOPNOTSUPP when zeroes
 * have to be written by the caller (also where only a part of a device's sector is meant), or another errno. FAST_ONLY:
 * EOPNOTSUPP also where the kernel itself would have to write them.
 */
int punch_zeroes(int fd, bool block_device, uint64_t offset, uint64_t len, bool may_free, bool fast_only);

/* Gives space back. Advice: where that cannot be, 0. */
int punch_away(int fd, bool block_device, uint64_t offset, uint64_t len);

#endif
