/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bar.h"

#include <glib.h>

char *drover_bar(uint64_t done, uint64_t total, int width, bool unicode)
{
    static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    GString *out = g_string_new(NULL);
    uint64_t steps = (uint64_t)width * (unicode ? 8 : 1);
    uint64_t filled = 0;
    if (total > 0)
        filled = done >= total ? steps : (uint64_t)((double)done / (double)total * (double)steps);
    if (total > 0 && done < total && filled == steps)
        filled--; /* rounding must not say that it is done */
    uint64_t whole = unicode ? filled / 8 : filled;
    int column = 0;
    for (; column < (int)whole; column++)
        g_string_append(out, unicode ? "█" : "#");
    if (unicode && column < width && (filled % 8 || (done > 0 && filled == 0))) {
        g_string_append(out, eighths[filled % 8 ? filled % 8 : 1]);
        column++;
    }
    for (; column < width; column++)
        g_string_append(out, unicode ? " " : ".");
    return g_string_free(out, FALSE);
}

char *drover_size_text(uint64_t bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    double value = (double)bytes;
    guint unit = 0;
    while (value >= 999.5 && unit + 1 < G_N_ELEMENTS(units)) {
        value /= 1000;
        unit++;
    }
    if (unit == 0)
        return g_strdup_printf("%.0f B", value);
    return g_strdup_printf("%.*f %s", value < 9.995 ? 2 : value < 99.95 ? 1 : 0, value, units[unit]);
}

char *drover_rate_text(uint64_t bytes_per_second)
{
    if (bytes_per_second == 0)
        return g_strdup("-");
    g_autofree char *size = drover_size_text(bytes_per_second);
    return g_strconcat(size, "/s", NULL);
}

char *drover_duration_text(int64_t seconds)
{
    if (seconds < 0)
        return g_strdup("-");
    if (seconds >= 86400)
        return g_strdup_printf("%" G_GINT64_FORMAT "d %02dh", seconds / 86400, (int)(seconds % 86400 / 3600));
    if (seconds >= 3600)
        return g_strdup_printf("%dh %02dm", (int)(seconds / 3600), (int)(seconds % 3600 / 60));
    if (seconds >= 60)
        return g_strdup_printf("%dm %02ds", (int)(seconds / 60), (int)(seconds % 60));
    return g_strdup_printf("%ds", (int)seconds);
}

char *drover_percent_text(uint64_t done, uint64_t total)
{
    if (total == 0)
        return g_strdup("-");
    guint64 tenths = (guint64)((double)done / (double)total * 1000);
    if (done < total && tenths > 999)
        tenths = 999;
    if (done >= total)
        tenths = 1000;
    return g_strdup_printf("%" G_GUINT64_FORMAT ".%" G_GUINT64_FORMAT "%%", tenths / 10, tenths % 10);
}
