/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/rest/url.h"

#include <string.h>

char *drover_rest_decode(const char *text)
{
    g_autoptr(GString) out = g_string_new(NULL);
    for (const char *at = text; *at; at++) {
        if (*at != '%') {
            g_string_append_c(out, *at);
            continue;
        }
        int high = g_ascii_xdigit_value(at[1]);
        int low = high < 0 ? -1 : g_ascii_xdigit_value(at[2]);
        if (low < 0 || (high == 0 && low == 0))
            return NULL;
        g_string_append_c(out, (char)(high << 4 | low));
        at += 2;
    }
    return g_utf8_validate(out->str, (gssize)out->len, NULL) ? g_string_free(g_steal_pointer(&out), FALSE)
                                                             : NULL;
}

char **drover_rest_split_path(const char *path)
{
    if (*path != '/')
        return NULL;
    g_auto(GStrv) raw = g_strsplit(path + 1, "/", -1);
    g_autoptr(GPtrArray) segments = g_ptr_array_new_with_free_func(g_free);
    for (char **segment = raw; *segment; segment++) {
        char *decoded = drover_rest_decode(*segment);
        if (decoded)
            g_ptr_array_add(segments, decoded);
        bool only = raw[1] == NULL && !**segment; /* "/" */
        if (!decoded || (!*decoded && !only) || strcmp(decoded, ".") == 0 || strcmp(decoded, "..") == 0)
            return NULL;
        if (only)
            g_ptr_array_set_size(segments, 0);
    }
    g_ptr_array_add(segments, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&segments), FALSE);
}
