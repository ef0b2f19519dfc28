/* SPDX-License-Identifier: Apache-2.0 */
/* A job's view as lines of text. Pure. */
#ifndef DROVER_CLI_RENDER_H
#define DROVER_CLI_RENDER_H

#include <stdbool.h>

#include "cli/view.h"

typedef struct {
    int columns;
    bool unicode;
    bool color;
} DroverScreen;

/* For a terminal: a line for the job, then a bar for each disk. Adds newly allocated strings without newline. */
void drover_render_bars(const DroverJobView *view, const DroverScreen *screen, GPtrArray *lines);

/* For a log or a pipe: what has changed is seen by comparing with the last one. Newly allocated. */
char *drover_render_line(const DroverJobView *view);

/* What a finished job came to: result, bytes, time, or the error and what to do. Newly allocated, may have many lines. */
char *drover_render_outcome(const DroverJobView *view);

/* True when a disk's total can still fall, because its format does not tell which parts are in use. */
bool drover_render_is_estimate(GHashTable *disk);

#endif
