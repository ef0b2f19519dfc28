/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locks that keep an image file frozen while we read it: QEMU's own image locks (so that no QEMU can start a VM on it,
 * and a running VM is noticed), and a shared flock for everybody else. Advisory: size and times are compared as well.
 * Facts: QEMU, block/file-posix.c (RAW_LOCK_PERM_BASE, RAW_LOCK_SHARED_BASE), include/block/block-common.h
 * (BLK_PERM_*).
 */
#ifndef DROVER_WORKER_SOURCE_LOCK_H
#define DROVER_WORKER_SOURCE_LOCK_H

#include <glib.h>
#include <stdbool.h>

/*
 * Locks the open file FD against writers until FD is closed. Never waits. DRV-SOURCE-BUSY (retryable) when somebody
 * writes now. File systems without locks pass; *LOCKED tells.
 */
bool drover_source_lock(int fd, const char *path, bool *locked, GError **error);

#endif
