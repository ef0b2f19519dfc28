/* SPDX-License-Identifier: Apache-2.0 */
/* Pages of a list that is newest first. A cursor names the last entry that was seen, so that a page neither
 * repeats nor leaves out anything when entries are added meanwhile. It is opaque to clients. Pure. */
#ifndef DROVER_VOLUME_AGENT_REST_PAGE_H
#define DROVER_VOLUME_AGENT_REST_PAGE_H

#include <stdbool.h>
#include <stdint.h>

#define DROVER_REST_PAGE_DEFAULT 50
#define DROVER_REST_PAGE_MAX 500

/* Newly allocated; characters that need no escape in a URL. */
char *drover_rest_cursor(uint64_t sequence);
/* False: not one of ours. */
bool drover_rest_cursor_read(const char *cursor, uint64_t *sequence);

#endif
