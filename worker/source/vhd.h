/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Structure check of VHD ("vpc" in QEMU) files, fixed and dynamic. QEMU has no check for them, and takes a differencing
 * disk for a fixed one.
 * Facts: Microsoft, "Virtual Hard Disk Image Format Specification" 1.0 (October 2006).
 */
#ifndef DROVER_WORKER_SOURCE_VHD_H
#define DROVER_WORKER_SOURCE_VHD_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* A dynamic VHD: a copy of the footer stands at the beginning. */
bool drover_vhd_probe(const uint8_t *head, size_t len);
/* A fixed one: only the last sector tells. */
bool drover_vhd_probe_tail(int fd, uint64_t file_size);

/* *CAPACITY_BYTES: the virtual size. Permanent errors: DRV-SOURCE-TRUNCATED, -CORRUPT, -EXTERNAL (differencing disk),
 * -FORMAT. Retryable: DRV-SOURCE-IO. */
bool drover_vhd_check(int fd, uint64_t file_size, uint64_t *capacity_bytes, GError **error);

#endif
