/* SPDX-License-Identifier: Apache-2.0 */
/* Progress as text: bars, sizes, rates, times. Pure. Strings are newly allocated. Sizes are decimal (MB = 10^6 bytes). */
#ifndef DROVER_CLI_BAR_H
#define DROVER_CLI_BAR_H

#include <stdbool.h>
#include <stdint.h>

/*
 * A bar of WIDTH columns without its frame. It is full only when DONE = TOTAL, and never empty once something is done
 * (given eighths of a column: UNICODE). TOTAL 0: empty.
 */
char *drover_bar(uint64_t done, uint64_t total, int width, bool unicode);

char *drover_size_text(uint64_t bytes);          /* "1.23 GB", "512 B" */
char *drover_rate_text(uint64_t bytes_per_second); /* "120.4 MB/s"; "-" for 0 */
char *drover_duration_text(int64_t seconds);     /* "1h 02m", "3m 05s", "12s"; "-" below 0 */

/* Percent with one decimal, rounded down, so that 100.0 means all. "-" for TOTAL 0. */
char *drover_percent_text(uint64_t done, uint64_t total);

#endif
