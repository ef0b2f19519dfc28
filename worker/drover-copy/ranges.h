/* SPDX-License-Identifier: Apache-2.0 */
/* The file of --ranges: "<offset> <length>" in bytes, one a line; empty lines and lines that begin with # are
 * skipped. */
#ifndef DROVER_WORKER_DROVER_COPY_RANGES_H
#define DROVER_WORKER_DROVER_COPY_RANGES_H

#include "worker/copy/copy.h"

/* An array of DroverRange, not empty; NULL with a PERMANENT error that names the line. */
GArray *drover_ranges_read(const char *path, GError **error);

#endif
