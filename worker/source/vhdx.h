/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Structure check of VHDX files, fixed and dynamic. QEMU accepts one whose last block is cut off.
 * Facts: Microsoft, [MS-VHDX] "Virtual Hard Disk v2 (VHDX) File Format".
 */
#ifndef DROVER_WORKER_SOURCE_VHDX_H
#define DROVER_WORKER_SOURCE_VHDX_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

bool drover_vhdx_probe(const uint8_t *head, size_t len);

/* *CAPACITY_BYTES: the virtual size. Permanent errors: DRV-SOURCE-TRUNCATED, -CORRUPT, -EXTERNAL (differencing disk),
 * -FORMAT. Retryable: DRV-SOURCE-IO. A log that must be replayed is left to QEMU to refuse. */
bool drover_vhdx_check(int fd, uint64_t file_size, uint64_t *capacity_bytes, GError **error);

#endif
