/* SPDX-License-Identifier: Apache-2.0 */
/* Unaligned integers in image headers, and exact reads for the parsers of untrusted images. */
#ifndef DROVER_WORKER_SOURCE_BYTES_H
#define DROVER_WORKER_SOURCE_BYTES_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t le32_at(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return GUINT32_FROM_LE(v);
}

static inline uint64_t le64_at(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return GUINT64_FROM_LE(v);
}

static inline uint32_t be32_at(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return GUINT32_FROM_BE(v);
}

static inline uint64_t be64_at(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return GUINT64_FROM_BE(v);
}

/* True when [OFFSET, OFFSET + LEN) lies inside LIMIT bytes; no overflow. */
static inline bool inside(uint64_t offset, uint64_t len, uint64_t limit)
{
    return offset <= limit && len <= limit - offset;
}

/*
 * Reads exactly LEN bytes at OFFSET of FD. Fails with DRV-SOURCE-TRUNCATED (permanent) when the file, which has
 * FILE_SIZE bytes, ends before that, naming WHAT is missing; with DRV-SOURCE-IO (retryable) when the read fails.
 */
bool drover_image_read(int fd, uint64_t file_size, uint64_t offset, void *buf, size_t len, const char *what,
                       GError **error);

/* DRV-SOURCE-TRUNCATED: WHAT lies at OFFSET and needs LEN bytes, the file has FILE_SIZE. Always returns false. */
bool drover_image_truncated(GError **error, const char *what, uint64_t offset, uint64_t len, uint64_t file_size);

#endif
