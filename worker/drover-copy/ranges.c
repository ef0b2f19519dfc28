/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/drover-copy/ranges.h"

#include <string.h>

static bool parse_line(char *line, DroverRange *range)
{
    g_auto(GStrv) words = g_strsplit_set(line, " \t", 0);
    const char *numbers[2];
    size_t n = 0;
    for (char **word = words; *word != NULL; word++) {
        if (**word == '\0')
            continue;
        if (n == G_N_ELEMENTS(numbers))
            return false;
        numbers[n++] = *word;
    }
    return n == 2 && g_ascii_string_to_unsigned(numbers[0], 10, 0, G_MAXINT64, &range->offset, NULL) &&
           g_ascii_string_to_unsigned(numbers[1], 10, 1, G_MAXINT64, &range->length, NULL);
}

GArray *drover_ranges_read(const char *path, GError **error)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) cause = NULL;
    if (!g_file_get_contents(path, &text, NULL, &cause)) {
        drover_fail(error, DROVER_ERROR_PERMANENT, "The ranges cannot be read: %s", cause->message);
        return NULL;
    }
    g_auto(GStrv) lines = g_strsplit(text, "\n", 0);
    g_autoptr(GArray) ranges = g_array_new(FALSE, FALSE, sizeof(DroverRange));
    for (size_t i = 0; lines[i] != NULL; i++) {
        DroverRange range;
        g_strstrip(lines[i]);
        if (*lines[i] == '\0' || *lines[i] == '#')
            continue;
        if (!parse_line(lines[i], &range)) {
            drover_fail(error, DROVER_ERROR_PERMANENT,
                        "%s, line %zu: '%s' is not \"<offset> <length>\" in bytes", path, i + 1, lines[i]);
            return NULL;
        }
        g_array_append_val(ranges, range);
    }
    if (ranges->len > 0)
        return g_steal_pointer(&ranges);
    drover_fail(error, DROVER_ERROR_PERMANENT, "%s holds no range", path);
    return NULL;
}
