/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cuts a disk into range tasks: minutes of work each, cell-aligned, the same cut for the same facts. Every
 * byte of the disk lies in exactly one range, holes included, because empty cells are read back at the
 * target, too. Pure.
 */
#ifndef DROVER_CORE_TASK_PLANNER_H
#define DROVER_CORE_TASK_PLANNER_H

#include <glib.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/digest/digest.h"

#define DROVER_RANGE_MIN (UINT64_C(128) << 20)
#define DROVER_RANGE_MAX (UINT64_C(16) << 30)
/* Longest range in disk bytes, however empty: its cell roots must fit into one record. */
#define DROVER_RANGE_SPAN_MAX (UINT64_C(64) << 30)

/* What is known about a disk's allocation. Without buckets the allocated bytes count as spread evenly. */
typedef struct {
    uint64_t capacity_bytes;
    uint64_t allocated_bytes;
    uint64_t bucket_bytes;   /* 0: no buckets */
    const uint64_t *buckets; /* allocated bytes of each */
    size_t n_buckets;
} DroverShape;

typedef struct {
    DroverRange range;      /* begins on a cell, ends on a cell or at the disk's end */
    uint64_t planned_bytes; /* allocated bytes in it; they add up to the disk's */
} DroverPlannedRange;

/* Allocated bytes that one task should hold: ALLOCATED (of all disks of the job) / (4 * SLOTS), within the
 * limits. */
uint64_t drover_plan_task_bytes(uint64_t allocated_bytes, uint32_t slots);

/* Ranges that hold about TASK_BYTES of data each, none longer than DROVER_RANGE_SPAN_MAX. New array of
 * DroverPlannedRange. */
GArray *drover_plan_by_data(const DroverShape *shape, uint64_t task_bytes);

/* Ranges of RANGE_BYTES, rounded up to cells, whatever they hold. New array of DroverPlannedRange. */
GArray *drover_plan_by_length(const DroverShape *shape, uint64_t range_bytes);

/* Ranges that hold about TASK_BYTES of AREAS (DroverRange, sorted, merged) each and no more than AREAS_MAX of them where
 * cells allow; parts of the disk without areas may lie in none. New array of DroverPlannedRange. */
GArray *drover_plan_by_areas(const GArray *areas, uint64_t capacity_bytes, uint64_t task_bytes, guint areas_max);

/* The parts of AREAS that lie in RANGE. New array of DroverRange. */
GArray *drover_areas_in(const GArray *areas, const DroverRange *range);

#endif
