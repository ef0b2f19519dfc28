/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an export's block status says about one region: runs of data and holes, collected answer by answer,
 * and cut into segments for copying. A hole is what reads as zero (base:allocation's ZERO bit); HOLE alone
 * promises nothing about the content. Pure; one thread.
 */
#ifndef DROVER_WORKER_COPY_ALLOCATION_H
#define DROVER_WORKER_COPY_ALLOCATION_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/digest/digest.h"

typedef struct {
    uint64_t offset, length;
    bool hole;
} DroverSegment;

typedef struct {
    uint64_t offset, end;
    uint64_t known_to; /* everything before it is known */
    GArray *runs;      /* of DroverSegment: ascending, neighbours differ */
} DroverAllocation;

DroverAllocation *drover_allocation_new(uint64_t offset, uint64_t end);
void drover_allocation_free(DroverAllocation *allocation);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverAllocation, drover_allocation_free)

/* The next LENGTH bytes after known_to; what lies beyond the end is cut off. */
void drover_allocation_append(DroverAllocation *allocation, uint64_t length, bool hole);
bool drover_allocation_is_complete(const DroverAllocation *allocation);

/*
 * Appends to SEGMENTS the segments of RANGE, which must be known. Borders lie on the 64 KiB grid or at the
 * range's ends: a piece of the grid with any data in it is data, so that digests and zero detection see whole
 * pieces.
 */
void drover_allocation_cut(const DroverAllocation *allocation, const DroverRange *range, GArray *segments);

#endif
