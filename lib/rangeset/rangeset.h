/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A set of byte ranges of one disk, kept sorted, merged (neighbours joined) and without empty ranges: the
 * canonical list that digests, tasks and checkpoints speak of. Adding in any order is cheap; the list is put
 * in order when it is read. Pure; one set must be used by one thread at a time. Offsets and lengths are
 * bytes; offset + length never passes 2^63.
 */
#ifndef DROVER_LIB_RANGESET_RANGESET_H
#define DROVER_LIB_RANGESET_RANGESET_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/digest/digest.h" /* DroverRange */

typedef struct DroverRangeset DroverRangeset;

DroverRangeset *drover_rangeset_new(void);
void drover_rangeset_free(DroverRangeset *set);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverRangeset, drover_rangeset_free)

/* Adds [OFFSET, OFFSET + LENGTH). Length 0 changes nothing. False, with nothing changed, when the end passes
 * 2^63. */
bool drover_rangeset_add(DroverRangeset *set, uint64_t offset, uint64_t length);
/* Takes [OFFSET, OFFSET + LENGTH) out. */
void drover_rangeset_remove(DroverRangeset *set, uint64_t offset, uint64_t length);
/* Keeps only what lies inside [OFFSET, OFFSET + LENGTH). */
void drover_rangeset_clip(DroverRangeset *set, uint64_t offset, uint64_t length);
/* Rounds each range outwards to multiples of BLOCK (> 0), but not beyond LIMIT, the end of the disk. */
void drover_rangeset_align(DroverRangeset *set, uint64_t block, uint64_t limit);

/* The canonical list; owned by SET, valid until it changes. */
const DroverRange *drover_rangeset_ranges(DroverRangeset *set, size_t *n);
uint64_t drover_rangeset_bytes(DroverRangeset *set); /* sum of the lengths */
/* True when all of [OFFSET, OFFSET + LENGTH) is in the set; length 0 is. */
bool drover_rangeset_contains(DroverRangeset *set, uint64_t offset, uint64_t length);
/* Index of the first range that ends after OFFSET; the number of ranges when there is none. */
size_t drover_rangeset_find(DroverRangeset *set, uint64_t offset);

#endif
