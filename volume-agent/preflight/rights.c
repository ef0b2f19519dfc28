/* SPDX-License-Identifier: Apache-2.0 */
/* Which calls the agent will make, and whether it may. */
#include <string.h>

#include "volume-agent/preflight/gather.h"

/* Every call of volume-agent/; a test holds this list against the sources. What a preflight only looks at when it may
 * (hosts, pools, limits) is not a right that a migration needs. */
static const char *const needed[] = {
#include "volume-agent/preflight/calls.inc"
};

/* CloudStack tells each account only of the calls that its role allows. */
bool drover_gather_rights(DroverGather *g, GError **error)
{
    json_t *rows = drover_look_list(g->context, "listApis", "api", NULL, NULL, error);
    if (!drover_gather_hold(g, rows))
        return false;
    g_autoptr(GHashTable) allowed = g_hash_table_new(g_str_hash, g_str_equal);
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row)
        g_hash_table_add(allowed, (gpointer)drover_json_text(row, "name"));
    GArray *missing = drover_gather_array(g, sizeof(char *));
    for (size_t n = 0; n < G_N_ELEMENTS(needed); n++)
        if (!g_hash_table_contains(allowed, needed[n]))
            g_array_append_val(missing, needed[n]);
    const char *end = NULL;
    g_array_append_val(missing, end);
    g->facts.missing_apis = (const char *const *)(gpointer)missing->data;
    return true;
}
