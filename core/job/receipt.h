/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Receipts: proof that a round of a disk arrived. Pure.
 *   round digest = SHA-256( for every cell in ascending order: le64(cell index) root )
 *   range hash   = SHA-256( for every range in ascending order: le64(offset) le64(length) )
 *   receipt n    = SHA-256( lines "drover-receipt-1", receipt n-1, round digest, range hash, change id; each
 * ends in \n ) All as lower-case hex; the receipt before the first is the empty string.
 */
#ifndef DROVER_CORE_JOB_RECEIPT_H
#define DROVER_CORE_JOB_RECEIPT_H

#include <glib.h>
#include <stddef.h>

#include "lib/digest/digest.h"

struct DroverCells;

/* Over all cells; newly allocated. */
char *drover_round_digest(const struct DroverCells *cells);
char *drover_range_hash(const DroverRange *ranges, size_t n_ranges);
char *drover_receipt(const char *previous, const char *round_digest, const char *range_hash,
                     const char *change_id);

#endif
