/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of small numbers (cells of a range) as bits, least significant bit of byte 0 first: the form that
 * tasks and state records carry. Pure. */
#ifndef DROVER_CORE_BITS_H
#define DROVER_CORE_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes that hold N bits. */
static inline size_t drover_bits_len(size_t n)
{
    return (n + 7) / 8;
}

/* Bit I of BYTES; bits past LEN bytes read as 0. */
static inline bool drover_bits_get(const uint8_t *bytes, size_t len, size_t i)
{
    return i / 8 < len && (bytes[i / 8] >> (i % 8) & 1) != 0;
}

static inline void drover_bits_set(uint8_t *bytes, size_t i)
{
    bytes[i / 8] = (uint8_t)(bytes[i / 8] | 1u << (i % 8));
}

#endif
