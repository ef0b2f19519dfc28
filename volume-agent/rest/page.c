/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/rest/page.h"

#include <glib.h>
#include <string.h>

#define PREFIX "o" /* says which list it belongs to */
#define DIGITS 16

char *drover_rest_cursor(uint64_t sequence)
{
    return g_strdup_printf(PREFIX "%016" G_GINT64_MODIFIER "x", sequence);
}

bool drover_rest_cursor_read(const char *cursor, uint64_t *sequence)
{
    if (!g_str_has_prefix(cursor, PREFIX) || strlen(cursor) != strlen(PREFIX) + DIGITS)
        return false;
    uint64_t value = 0;
    for (const char *at = cursor + strlen(PREFIX); *at; at++) {
        int digit = g_ascii_isupper(*at) ? -1 : g_ascii_xdigit_value(*at);
        if (digit < 0)
            return false;
        value = value << 4 | (uint64_t)digit;
    }
    *sequence = value;
    return true;
}
