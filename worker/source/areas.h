/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of changed areas, bounded so that they fit into one message. Pure. */
#ifndef DROVER_WORKER_SOURCE_AREAS_H
#define DROVER_WORKER_SOURCE_AREAS_H

#include <glib.h>

/* Areas of one disk in one round. 32,000 ranges take less than 512 KiB in every message that lists them, whatever
 * cells they lie in: the inspection, copy tasks, checkpoints, read-back. */
#define DROVER_AREAS_MAX 32000u

/* Joins neighbours in AREAS (DroverRange, sorted, merged), those with the smallest gaps first, until at most MAX (> 0)
 * are left. Returns how many gaps were closed: their bytes are copied though they did not change. */
unsigned drover_areas_limit(GArray *areas, unsigned max);

#endif
