/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/vsphere/vsphere.h"

#include <string.h>

/* 16 bytes in hex, a blank between each two, but a dash in the middle: 47 characters; then "/" and a number. */
#define UUID_LEN 47

bool drover_vsphere_change_id_is_valid(const char *change_id)
{
    if (change_id == NULL || strlen(change_id) < UUID_LEN + 2)
        return false;
    for (int i = 0; i < UUID_LEN; i++) {
        char c = change_id[i];
        bool ok = i % 3 < 2 ? g_ascii_isxdigit(c) : c == (i == UUID_LEN / 2 ? '-' : ' ');
        if (!ok)
            return false;
    }
    if (change_id[UUID_LEN] != '/')
        return false;
    guint64 unused;
    return g_ascii_string_to_unsigned(change_id + UUID_LEN + 1, 10, 0, G_MAXUINT64, &unused, NULL);
}

bool drover_vsphere_change_id_same_epoch(const char *a, const char *b)
{
    return drover_vsphere_change_id_is_valid(a) && drover_vsphere_change_id_is_valid(b) &&
           g_ascii_strncasecmp(a, b, UUID_LEN) == 0;
}
