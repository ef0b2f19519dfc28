/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/redis/address.h"

#include <string.h>

#include "lib/base/error.h"

static bool parse_port(const char *text, int *out)
{
    guint64 port = 0;
    if (!g_ascii_string_to_unsigned(text, 10, 1, 65535, &port, NULL))
        return false;
    *out = (int)port;
    return true;
}

bool drover_redis_address_parse(const char *text, int default_port, DroverRedisAddress *out, GError **error)
{
    g_auto(DroverRedisAddress) address = {.port = default_port};
    const char *path = g_str_has_prefix(text, "unix:") ? text + strlen("unix:") : text;
    bool ok = true;
    if (*path == '/') {
        address.path = g_strdup(path);
    } else if (path != text) {
        ok = false;
    } else if (*text == '[') {
        const char *end = strchr(text, ']');
        ok = end && end > text + 1 && (end[1] == '\0' || (end[1] == ':' && parse_port(end + 2, &address.port)));
        if (ok)
            address.host = g_strndup(text + 1, (gsize)(end - text - 1));
    } else {
        const char *colon = strchr(text, ':');
        gsize len = colon ? (gsize)(colon - text) : strlen(text);
        ok = len > 0 && (!colon || parse_port(colon + 1, &address.port));
        if (ok)
            address.host = g_strndup(text, len);
    }
    if (!ok)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "'%s' is no address of a Redis server: write HOST, HOST:PORT, [IPV6]:PORT or /PATH/OF/SOCKET",
                           text);
    *out = address;
    address = (DroverRedisAddress){0};
    return true;
}

void drover_redis_address_clear(DroverRedisAddress *address)
{
    g_clear_pointer(&address->host, g_free);
    g_clear_pointer(&address->path, g_free);
}
