/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a request's URL, decoded strictly (RFC 3986): what is ambiguous is refused, never guessed at.
 * Pure. */
#ifndef DROVER_VOLUME_AGENT_REST_URL_H
#define DROVER_VOLUME_AGENT_REST_URL_H

#include <glib.h>
#include <stdbool.h>

/* TEXT with its %XX decoded; newly allocated. NULL: a broken escape, a NUL byte, or no UTF-8. */
char *drover_rest_decode(const char *text);

/* The segments of PATH ("/a/b%2Fc": "a", "b/c") as a strv, newly allocated. NULL: not absolute, an empty
 * segment, "." or "..", or one that cannot be decoded. "/" has none. */
char **drover_rest_split_path(const char *path);

#endif
