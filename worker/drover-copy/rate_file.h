/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file of --rate-file: one size as --rate takes it ("100M", "0" for no limit). It is looked at again and again while
 * the copy runs; whoever writes it may replace it or write it in place.
 */
#ifndef DROVER_WORKER_DROVER_COPY_RATE_FILE_H
#define DROVER_WORKER_DROVER_COPY_RATE_FILE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const char *path;
    uint64_t rate; /* bytes per second, 0: no limit; what counts now */
    bool bad;      /* the last look found nothing usable, and said so */
} DroverRateFile;

typedef enum {
    DROVER_RATE_SAME,
    DROVER_RATE_CHANGED, /* ->rate is new */
    DROVER_RATE_BAD,     /* missing or no size; ->rate stays. Told once, until the file is good again */
} DroverRateNews;

/* Reads the file. ERROR is set (PERMANENT) with DROVER_RATE_BAD only. Blocks as long as the file system does. */
DroverRateNews drover_rate_file_look(DroverRateFile *file, GError **error);

#endif
