/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/source.h"

#include <string.h>

#include "lib/base/config.h"
#include "lib/base/error.h"
#include "lib/base/ids.h"

/* Splits at single commas; doubled ones stand for themselves. */
static GPtrArray *split(const char *text)
{
    GPtrArray *parts = g_ptr_array_new_with_free_func(g_free);
    GString *part = g_string_new(NULL);
    for (const char *p = text; *p; p++) {
        if (*p == ',' && p[1] == ',') {
            g_string_append_c(part, *p++);
        } else if (*p == ',') {
            g_ptr_array_add(parts, g_string_free(part, FALSE));
            part = g_string_new(NULL);
        } else {
            g_string_append_c(part, *p);
        }
    }
    g_ptr_array_add(parts, g_string_free(part, FALSE));
    return parts;
}

bool drover_source_format_is_known(const char *format)
{
    static const char *const known[] = {"raw", "qcow2", "vmdk", "vhdx", "vpc", NULL};
    return g_strv_contains(known, format);
}

static bool set_format(DroverSource *s, const char *value, GError **error)
{
    if (!drover_source_format_is_known(value))
        return drover_fail(error, DROVER_ERROR_PERMANENT, "'%s' is none of raw, qcow2, vmdk, vhdx, vpc", value);
    s->format = g_strdup(value);
    return true;
}

static bool set_sha256(DroverSource *s, const char *value, GError **error)
{
    if (strlen(value) != 64 || strspn(value, "0123456789abcdefABCDEF") != 64)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "'%s' has not 64 hex digits", value);
    s->sha256 = g_ascii_strdown(value, -1);
    return true;
}

static bool set_bitmap(DroverSource *s, const char *value, GError **error)
{
    (void)error;
    s->bitmap = g_strdup(value);
    return true;
}

static bool set_frozen(DroverSource *s, const char *value, GError **error)
{
    if (strcmp(value, "yes") != 0 && strcmp(value, "no") != 0)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "'%s' is neither yes nor no", value);
    s->frozen = strcmp(value, "yes") == 0;
    return true;
}

static bool set_uuid(DroverSource *s, const char *value, GError **error)
{
    if (!g_uuid_string_is_valid(value))
        return drover_fail(error, DROVER_ERROR_PERMANENT, "'%s' is no UUID; it is the VM's instance UUID that is meant", value);
    s->vm_uuid = g_ascii_strdown(value, -1);
    return true;
}

static bool set_id(DroverSource *s, const char *value, GError **error)
{
    if (!drover_id_is_valid(value))
        return drover_fail(error, DROVER_ERROR_PERMANENT, "'%s' is not 1 to 64 of letters, digits, '.', '_', '-'",
                           value);
    s->disk_id = g_strdup(value);
    return true;
}

static bool set_name(DroverSource *s, const char *value, GError **error)
{
    (void)error;
    s->volume_name = g_strdup(value);
    return true;
}

static bool set_offering(DroverSource *s, const char *value, GError **error)
{
    (void)error;
    s->disk_offering = g_strdup(value);
    return true;
}

static bool set_size(DroverSource *s, const char *value, GError **error)
{
    return drover_parse_size(value, &s->expected_size_bytes, error);
}

static bool set_target_size(DroverSource *s, const char *value, GError **error)
{
    return drover_parse_size(value, &s->target_size_bytes, error);
}

static const struct {
    const char *key;
    int kind; /* DroverSourceKind, or -1 for all */
    bool (*set)(DroverSource *, const char *, GError **);
} settings[] = {
    {"format", DROVER_SOURCE_FILE, set_format}, {"sha256", DROVER_SOURCE_FILE, set_sha256},
    {"bitmap", DROVER_SOURCE_NBD, set_bitmap},  {"frozen", DROVER_SOURCE_NBD, set_frozen},
    {"uuid", DROVER_SOURCE_VSPHERE, set_uuid},
    {"id", -1, set_id},                         {"name", -1, set_name},
    {"offering", -1, set_offering},             {"target-size", -1, set_target_size},
    {"size", DROVER_SOURCE_FILE, set_size},
};

static const char *const kind_names[] = {"file", "nbd", "vsphere"};

static bool apply(DroverSource *s, const char *text, GHashTable *seen, GError **error)
{
    const char *equals = strchr(text, '=');
    if (!equals || equals == text || !equals[1])
        return drover_fail(error, DROVER_ERROR_PERMANENT, "'%s' is not key=value (a comma in a path is written twice)",
                           text);
    g_autofree char *key = g_strndup(text, (gsize)(equals - text));
    for (guint i = 0; i < G_N_ELEMENTS(settings); i++) {
        if (strcmp(settings[i].key, key) != 0)
            continue;
        if (settings[i].kind >= 0 && settings[i].kind != (int)s->kind)
            return drover_fail(error, DROVER_ERROR_PERMANENT, "'%s' does not apply to %s sources", key,
                               kind_names[s->kind]);
        if (!g_hash_table_add(seen, g_strdup(key)))
            return drover_fail(error, DROVER_ERROR_PERMANENT, "'%s' is given twice", key);
        if (settings[i].set(s, equals + 1, error))
            return true;
        g_prefix_error(error, "%s: ", key);
        return false;
    }
    return drover_fail(error, DROVER_ERROR_PERMANENT,
                       "unknown key '%s'; there are format, size, sha256, bitmap, frozen, uuid, id, name, offering, target-size", key);
}

static bool is_nbd(const char *text)
{
    static const char *const schemes[] = {"nbd:", "nbds:", "nbd+unix:", "nbds+unix:"};
    for (guint i = 0; i < G_N_ELEMENTS(schemes); i++)
        if (g_ascii_strncasecmp(text, schemes[i], strlen(schemes[i])) == 0)
            return true;
    return false;
}

/* VCENTER/VM/KEY */
static bool parse_vsphere(DroverSource *s, const char *place, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(place, "/", -1);
    guint64 key = 0;
    if (g_strv_length(parts) != 3 || !*parts[0] || !*parts[1])
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "'%s' is not VCENTER/VM/KEY, e.g. vsphere:dc1/vm-12/2000; 'drover discover' lists them", place);
    if (!drover_id_is_valid(parts[0]))
        return drover_fail(error, DROVER_ERROR_PERMANENT, "'%s' is no name of a vCenter", parts[0]);
    if (!drover_id_is_valid(parts[1]) || !strchr(parts[1], '-'))
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "'%s' is no id of a VM like vm-12; 'drover discover --filter %s' tells it", parts[1], parts[1]);
    if (!g_ascii_string_to_unsigned(parts[2], 10, 1, G_MAXINT32, &key, NULL))
        return drover_fail(error, DROVER_ERROR_PERMANENT, "'%s' is no key of a disk like 2000", parts[2]);
    s->kind = DROVER_SOURCE_VSPHERE;
    s->path_or_uri = g_strdup(place);
    s->vcenter = g_strdup(parts[0]);
    s->vm_moref = g_strdup(parts[1]);
    s->disk_key = (int32_t)key;
    return true;
}

static bool parse_place(DroverSource *s, const char *text, GError **error)
{
    if (g_str_has_prefix(text, "vsphere:"))
        return parse_vsphere(s, text + strlen("vsphere:"), error);
    if (is_nbd(text)) {
        g_autofree char *scheme = NULL;
        g_autofree char *userinfo = NULL;
        if (!g_uri_split(text, G_URI_FLAGS_NONE, &scheme, &userinfo, NULL, NULL, NULL, NULL, NULL, error)) {
            g_prefix_error(error, "'%s' is no NBD URI: ", text);
            return false;
        }
        if (userinfo && strchr(userinfo, ':'))
            return drover_fail(error, DROVER_ERROR_PERMANENT, "an NBD URI must not carry a password");
        s->kind = DROVER_SOURCE_NBD;
        s->path_or_uri = g_strdup(text);
        return true;
    }
    const char *path = g_str_has_prefix(text, "file://") ? text + strlen("file://")
                       : g_str_has_prefix(text, "file:") ? text + strlen("file:")
                                                         : text;
    const char *colon = strchr(path, ':');
    if (path == text && *path != '/' && colon && colon[1] == '/')
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "'%.*s' is no kind of source that there is: write file:/PATH, nbd://HOST/EXPORT or vsphere:VCENTER/VM/KEY",
                           (int)(colon - path), path);
    if (!*path)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "the path is empty: write file:/PATH/OF/DISK");
    if (path != text && *path != '/')
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "the path '%s' is not absolute: every worker of the site must find it", path);
    s->kind = DROVER_SOURCE_FILE;
    s->path_or_uri = g_canonicalize_filename(path, NULL);
    return true;
}

bool drover_source_parse(const char *text, DroverSource *out, GError **error)
{
    g_auto(DroverSource) s = {0};
    g_autoptr(GPtrArray) parts = split(text);
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    bool ok = parse_place(&s, g_ptr_array_index(parts, 0), error);
    for (guint i = 1; ok && i < parts->len; i++)
        ok = apply(&s, g_ptr_array_index(parts, i), seen, error);
    if (!ok) {
        g_prefix_error(error, "source '%s': ", text);
        return false;
    }
    *out = s;
    s = (DroverSource){0};
    return true;
}

void drover_source_clear(DroverSource *s)
{
    g_clear_pointer(&s->path_or_uri, g_free);
    g_clear_pointer(&s->format, g_free);
    g_clear_pointer(&s->sha256, g_free);
    g_clear_pointer(&s->bitmap, g_free);
    g_clear_pointer(&s->vcenter, g_free);
    g_clear_pointer(&s->vm_moref, g_free);
    g_clear_pointer(&s->vm_uuid, g_free);
    g_clear_pointer(&s->disk_id, g_free);
    g_clear_pointer(&s->volume_name, g_free);
    g_clear_pointer(&s->disk_offering, g_free);
}

const char *drover_source_probe(const void *head, size_t len)
{
    static const struct {
        const char *magic;
        const char *format;
    } magics[] = {
        {"QFI\xfb", "qcow2"}, {"KDMV", "vmdk"}, {"COWD", "vmdk"}, {"# Disk DescriptorFile", "vmdk"},
        {"vhdxfile", "vhdx"}, {"conectix", "vpc"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(magics); i++) {
        size_t n = strlen(magics[i].magic);
        if (len >= n && memcmp(head, magics[i].magic, n) == 0)
            return magics[i].format;
    }
    return NULL;
}
