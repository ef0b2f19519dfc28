/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/columns.h"

struct DroverColumns {
    GPtrArray *cells; /* char *, headings first */
    GArray *right;    /* gboolean, of each column */
};

DroverColumns *drover_columns_new(const char *const *headings)
{
    DroverColumns *c = g_new0(DroverColumns, 1);
    c->cells = g_ptr_array_new_with_free_func(g_free);
    c->right = g_array_new(FALSE, FALSE, sizeof(gboolean));
    for (; *headings; headings++) {
        gboolean right = **headings == '>';
        g_array_append_val(c->right, right);
        g_ptr_array_add(c->cells, g_strdup(*headings + right));
    }
    return c;
}

void drover_columns_free(DroverColumns *c)
{
    g_ptr_array_unref(c->cells);
    g_array_unref(c->right);
    g_free(c);
}

void drover_columns_add(DroverColumns *c, char *cell)
{
    g_ptr_array_add(c->cells, g_utf8_make_valid(cell, -1));
    g_free(cell);
}

char *drover_columns_text(const DroverColumns *c)
{
    guint n = c->right->len;
    g_autofree glong *widths = g_new0(glong, n);
    for (guint i = 0; i < c->cells->len; i++)
        widths[i % n] = MAX(widths[i % n], g_utf8_strlen(c->cells->pdata[i], -1));
    GString *out = g_string_new(NULL);
    for (guint i = 0; i < c->cells->len; i++) {
        const char *cell = c->cells->pdata[i];
        glong pad = widths[i % n] - g_utf8_strlen(cell, -1);
        gboolean right = g_array_index(c->right, gboolean, i % n), last = i % n == n - 1;
        if (right)
            g_string_append_printf(out, "%*s", (int)pad, "");
        g_string_append(out, cell);
        if (!right && !last)
            g_string_append_printf(out, "%*s", (int)pad, "");
        while (last && out->len && out->str[out->len - 1] == ' ')
            g_string_truncate(out, out->len - 1);
        g_string_append(out, last ? "\n" : "  ");
    }
    return g_string_free(out, FALSE);
}
