/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Digests of disk content, the same on every side that computes them: the worker hashes what it read from the source,
 * the volume agent what it reads back from the device.
 *
 * Construction
 *   cell   32 MiB of a disk (the last one may be short); cell i covers [i * 32 MiB, (i + 1) * 32 MiB)
 *   piece  a cell's canonical range list (sorted, merged) cut at the absolute 64 KiB grid; partial pieces allowed.
 *          A full round covers the whole cell with one range, holes included, so every cell of a full round
 *          has 512 pieces of 64 KiB (fewer in the disk's last cell).
 *   leaf   H(bytes of the piece)
 *   root   H( for every piece in ascending order: le64(offset on the disk) le64(length) leaf )
 * H is XXH3-128 (16 bytes, canonical = big endian order of xxHash) or SHA-256 (32 bytes).
 * Leaves of all-zero 64 KiB pieces are precomputed. Pieces may be hashed in any order and by any thread; the root is
 * taken once all leaves of the cell are there.
 *
 * Pure computation: no I/O, no locks. One DroverCellDigest must be used by one thread at a time.
 */
#ifndef DROVER_LIB_DIGEST_DIGEST_H
#define DROVER_LIB_DIGEST_DIGEST_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DROVER_CELL_BYTES (UINT64_C(32) << 20)
#define DROVER_LEAF_BYTES (UINT64_C(64) << 10)
#define DROVER_DIGEST_MAX 32

/* Values equal drover.v1.DigestAlgorithm. */
typedef enum {
    DROVER_DIGEST_NONE = 1,
    DROVER_DIGEST_XXH3 = 2,
    DROVER_DIGEST_SHA256 = 3,
} DroverDigestAlgorithm;

typedef struct {
    uint64_t offset; /* bytes */
    uint64_t length; /* bytes, > 0 */
} DroverRange;

typedef struct {
    uint8_t len; /* 0 for NONE, 16 for XXH3, 32 for SHA256 */
    uint8_t bytes[DROVER_DIGEST_MAX];
} DroverDigest;

/* Length in bytes of a digest. */
size_t drover_digest_len(DroverDigestAlgorithm algorithm);
const char *drover_digest_name(DroverDigestAlgorithm algorithm); /* "none", "xxh3", "sha256" */
bool drover_digest_parse_name(const char *name, DroverDigestAlgorithm *out);
bool drover_digest_equal(const DroverDigest *a, const DroverDigest *b);

/* Hash of LEN bytes in one go. */
void drover_digest_bytes(DroverDigestAlgorithm algorithm, const void *data, size_t len, DroverDigest *out);

/* True when all LEN bytes at DATA are zero; looks at every byte. */
bool drover_is_zero(const void *data, size_t len);

/*
 * Collects the leaves of one cell. RANGES (N_RANGES of them, sorted, merged, inside the cell) is the canonical range
 * list; N_RANGES = 0 stands for the whole cell [CELL_OFFSET, CELL_OFFSET + CELL_LEN).
 */
typedef struct DroverCellDigest DroverCellDigest;
DroverCellDigest *drover_cell_digest_new(DroverDigestAlgorithm algorithm, uint64_t cell_offset, uint64_t cell_len,
                                         const DroverRange *ranges, size_t n_ranges);
void drover_cell_digest_free(DroverCellDigest *cell);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverCellDigest, drover_cell_digest_free)

/* Forget all leaves: the cell is about to be read again. */
void drover_cell_digest_reset(DroverCellDigest *cell);

/*
 * Add data or zeroes for [OFFSET, OFFSET + LEN), which must lie inside the range list. Bytes may arrive in any order;
 * a call may cover several pieces, but must begin and end on piece boundaries (g_assert).
 */
void drover_cell_digest_add(DroverCellDigest *cell, uint64_t offset, const void *data, size_t len);
void drover_cell_digest_add_zero(DroverCellDigest *cell, uint64_t offset, uint64_t len);

bool drover_cell_digest_is_complete(const DroverCellDigest *cell);

/* The root; false while a leaf is missing. */
bool drover_cell_digest_root(const DroverCellDigest *cell, DroverDigest *out);

#endif
