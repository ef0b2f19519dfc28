/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Structure check of qcow2 files. `qemu-img check` finds clusters that lie a whole cluster or more behind the end of
 * the file, not a last cluster that is cut off in its middle; QEMU then reads zeroes. This looks at every cluster's
 * end, and refuses images that would make QEMU open other files. Facts: QEMU, docs/interop/qcow2.txt.
 */
#ifndef DROVER_WORKER_SOURCE_QCOW2_H
#define DROVER_WORKER_SOURCE_QCOW2_H

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint64_t capacity_bytes;
    uint64_t cluster_bytes;
    uint64_t allocated_clusters; /* standard and compressed ones */
} DroverQcow2Info;

/*
 * Blocks on reads of FD only; memory is bounded (L1 table, at most 32 MiB, and one L2 table). The file is untrusted
 * input. Permanent errors: DRV-SOURCE-TRUNCATED, DRV-SOURCE-CORRUPT, DRV-SOURCE-EXTERNAL (backing or data file),
 * DRV-SOURCE-ENCRYPTED, DRV-SOURCE-FORMAT. Retryable: DRV-SOURCE-IO, cancelled.
 */
bool drover_qcow2_check(int fd, uint64_t file_size, DroverQcow2Info *info, GCancellable *cancel, GError **error);

bool drover_qcow2_probe(const uint8_t *head, size_t len);

#endif
