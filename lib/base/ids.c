/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/ids.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static bool only(const char *text, const char *extra, bool upper, size_t max)
{
    if (!text || !*text)
        return false;
    size_t len = 0;
    for (; text[len]; len++) {
        char c = text[len];
        if (len >= max)
            return false;
        bool ok = g_ascii_islower(c) || g_ascii_isdigit(c) || (upper && g_ascii_isupper(c)) || strchr(extra, c);
        if (!ok)
            return false;
    }
    return true;
}

bool drover_id_is_valid(const char *id)
{
    return only(id, "._-", true, 64) && strcmp(id, ".") != 0 && strcmp(id, "..") != 0;
}

bool drover_site_is_valid(const char *site)
{
    return only(site, "-", false, 40);
}

bool drover_vm_name_is_valid(const char *name)
{
    return only(name, "-", true, 63) && g_ascii_isalpha(name[0]) && name[strlen(name) - 1] != '-';
}

static void random_bytes(uint8_t *out, size_t len)
{
    while (len > 0) {
        ssize_t n = getrandom(out, len, 0);
        if (n < 0) {
            g_assert(errno == EINTR); /* the kernel's generator does not fail otherwise */
            continue;
        }
        out += n;
        len -= (size_t)n;
    }
}

static char *random_hex(const char *prefix, size_t n_bytes)
{
    uint8_t bytes[16];
    g_assert(n_bytes <= sizeof bytes);
    random_bytes(bytes, n_bytes);
    GString *out = g_string_new(prefix);
    for (size_t i = 0; i < n_bytes; i++)
        g_string_append_printf(out, "%02x", bytes[i]);
    return g_string_free(out, FALSE);
}

char *drover_id_new(const char *prefix)
{
    return random_hex(prefix, 8);
}

char *drover_token_new(void)
{
    return random_hex("", 16);
}

char *drover_task_id(const char *job_id, const char *disk_id, uint32_t round, const char *kind, const char *rest)
{
    return g_strdup_printf("%s/%s/r%u/%s%s%s", job_id, disk_id && *disk_id ? disk_id : "-", round, kind,
                           rest && *rest ? "/" : "", rest ? rest : "");
}

char *drover_uuid_from(const char *text)
{
    /* Any fixed namespace will do; this one was drawn at random for Drover. */
    static const guint8 namespace_id[16] = {0x6a, 0x1f, 0x0c, 0x4e, 0x93, 0x27, 0x4d, 0x5b,
                                            0x8e, 0x11, 0x52, 0xd7, 0xb4, 0x60, 0x2a, 0x9c};
    g_autoptr(GChecksum) sha1 = g_checksum_new(G_CHECKSUM_SHA1);
    g_checksum_update(sha1, namespace_id, sizeof namespace_id);
    g_checksum_update(sha1, (const guchar *)text, -1);
    guint8 d[20];
    gsize len = sizeof d;
    g_checksum_get_digest(sha1, d, &len);
    d[6] = (guint8)((d[6] & 0x0f) | 0x50);
    d[8] = (guint8)((d[8] & 0x3f) | 0x80);
    return g_strdup_printf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", d[0], d[1], d[2],
                           d[3], d[4], d[5], d[6], d[7], d[8], d[9], d[10], d[11], d[12], d[13], d[14], d[15]);
}

static int64_t clock_ms(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t drover_now_ms(void)
{
    return clock_ms(CLOCK_REALTIME);
}

int64_t drover_boottime_ms(void)
{
    return clock_ms(CLOCK_BOOTTIME);
}

char *drover_iso8601(int64_t unix_ms)
{
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    return g_strdup_printf("%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
                           tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(unix_ms % 1000));
}
