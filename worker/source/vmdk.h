/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Structure check of VMDK files that hold everything in one file: hosted sparse extents (monolithicSparse) and
 * streamOptimized, with the grain directory in front (as QEMU writes it) or behind a footer (as VMware does).
 * QEMU reads zeroes where such a file is cut off, and `qemu-img check` does not notice; this does.
 * Facts: VMware, "Virtual Disk Format 5.0", sections "Hosted Sparse Extent" and "Stream-Optimized Compressed Sparse
 * Extents".
 */
#ifndef DROVER_WORKER_SOURCE_VMDK_H
#define DROVER_WORKER_SOURCE_VMDK_H

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint64_t capacity_bytes;
    uint64_t grain_bytes;
    uint64_t allocated_grains;
    bool compressed;
    bool footer; /* grain directory found through the footer */
} DroverVmdkInfo;

/*
 * Walks header, embedded descriptor, grain directory and every grain table; in compressed files the marker of every
 * grain, too. Blocks on reads of FD only; memory is bounded (one directory and one table). The file is untrusted input.
 * Permanent errors: DRV-SOURCE-TRUNCATED, DRV-SOURCE-CORRUPT, DRV-SOURCE-EXTERNAL (needs other files: parent or
 * extents), DRV-SOURCE-FORMAT. Retryable: DRV-SOURCE-IO, cancelled.
 */
bool drover_vmdk_check(int fd, uint64_t file_size, DroverVmdkInfo *info, GCancellable *cancel, GError **error);

/* Magic of a sparse VMDK, or of its text descriptor, at the beginning of a file. */
bool drover_vmdk_probe(const uint8_t *head, size_t len);

#endif
