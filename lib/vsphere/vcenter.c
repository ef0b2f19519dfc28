/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/vsphere/vcenter.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/config.h"
#include "lib/base/error.h"

#define GROUP "vcenter "
#define PASSWORD_MAX 4096

const DroverOption drover_vsphere_options[] = {
    {"vsphere", "vcenters", DROVER_OPTION_STRING, "/etc/drover/vcenters.conf", "FILE",
     "Key file of the vCenters that sources are in (docs/vmware.md)", 0},
    DROVER_OPTION_END,
};

static const char *const keys_known[] = {"url",      "user",         "password-file", "ca-file",     "thumbprint",
                                         "sessions", "call-timeout", "vddk-libdir",   "transports",  "compression",
                                         "single-link", "unbuffered", NULL};

static void forget(char *secret)
{
    if (secret)
        explicit_bzero(secret, strlen(secret));
    g_free(secret);
}

void drover_vcenter_free(DroverVcenter *vcenter)
{
    if (vcenter == NULL)
        return;
    forget(vcenter->password);
    g_free(vcenter->name);
    g_free(vcenter->url);
    g_free(vcenter->user);
    g_free(vcenter->password_file);
    g_free(vcenter->ca_file);
    g_free(vcenter->thumbprint);
    g_free(vcenter->vddk_libdir);
    g_free(vcenter->transports);
    g_free(vcenter->compression);
    g_free(vcenter);
}

/* ---- the key file ---------------------------------------------------------------------------------------------- */

static GKeyFile *open_file(const char *path, GError **error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GError) why = NULL;
    if (g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, &why))
        return g_steal_pointer(&file);
    drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VCENTER-CONFIG: the list of vCenters %s cannot be read: %s", path,
                why->message);
    return NULL;
}

char **drover_vcenter_names(const char *path, GError **error)
{
    g_autoptr(GKeyFile) file = open_file(path, error);
    if (file == NULL)
        return NULL;
    g_autoptr(GStrvBuilder) names = g_strv_builder_new();
    g_auto(GStrv) groups = g_key_file_get_groups(file, NULL);
    for (char **group = groups; *group; group++)
        if (g_str_has_prefix(*group, GROUP))
            g_strv_builder_add(names, *group + strlen(GROUP));
    return g_strv_builder_end(names);
}

static bool bad(const char *path, const char *name, const char *key, GError **error, const char *format, ...)
    G_GNUC_PRINTF(5, 6);
static bool bad(const char *path, const char *name, const char *key, GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *why = g_strdup_vprintf(format, args);
    va_end(args);
    return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VCENTER-CONFIG: %s, [" GROUP "%s] %s: %s", path, name, key, why);
}

static char *text_of(GKeyFile *file, const char *group, const char *key, const char *otherwise)
{
    char *text = g_key_file_get_string(file, group, key, NULL);
    return text ? g_strstrip(text) : g_strdup(otherwise);
}

/* ---- values ---------------------------------------------------------------------------------------------------- */

static bool is_loopback(const char *host)
{
    return host != NULL &&
           (strcmp(host, "localhost") == 0 || strcmp(host, "::1") == 0 || g_str_has_prefix(host, "127."));
}

static const char *url_complaint(const char *url)
{
    g_autoptr(GUri) uri = g_uri_parse(url, G_URI_FLAGS_HAS_PASSWORD, NULL);
    if (uri == NULL || g_uri_get_host(uri) == NULL || *g_uri_get_host(uri) == '\0')
        return "give the address of its SDK, e.g. https://vcenter.example/sdk";
    if (g_uri_get_userinfo(uri) != NULL)
        return "credentials do not belong into an address; see user and password-file";
    if (strcmp(g_uri_get_scheme(uri), "https") != 0 &&
        !(strcmp(g_uri_get_scheme(uri), "http") == 0 && is_loopback(g_uri_get_host(uri))))
        return "only https: the password must not travel in plain text (http is for the loopback address)";
    return NULL;
}

/* Upper-case hex with colons, or NULL when TEXT is no SHA-1 or SHA-256. */
static char *thumbprint_of(const char *text)
{
    g_autoptr(GString) out = g_string_new(NULL);
    size_t digits = 0;
    for (; *text; text++) {
        if (*text == ':')
            continue;
        if (!g_ascii_isxdigit(*text))
            return NULL;
        if (digits > 0 && digits % 2 == 0)
            g_string_append_c(out, ':');
        g_string_append_c(out, g_ascii_toupper(*text));
        digits++;
    }
    return digits == 40 || digits == 64 ? g_string_free(g_steal_pointer(&out), FALSE) : NULL;
}

static bool bool_of(GKeyFile *file, const char *path, const char *name, const char *key, bool *out, GError **error)
{
    g_autofree char *group = g_strconcat(GROUP, name, NULL);
    g_autofree char *text = text_of(file, group, key, "false");
    *out = strcmp(text, "true") == 0;
    return *out || strcmp(text, "false") == 0 || bad(path, name, key, error, "'%s' is not true or false", text);
}

static bool transports_are_known(const char *text)
{
    static const char *const known[] = {"file", "san", "hotadd", "nbdssl", "nbd", NULL};
    g_auto(GStrv) parts = g_strsplit(text, ":", -1);
    for (char **part = parts; *part; part++)
        if (!g_strv_contains(known, *part))
            return false;
    return parts[0] != NULL;
}

static bool take_values(DroverVcenter *v, GKeyFile *file, const char *path, const char *group, GError **error)
{
    v->url = text_of(file, group, "url", "");
    v->user = text_of(file, group, "user", "");
    v->password_file = text_of(file, group, "password-file", "");
    v->ca_file = text_of(file, group, "ca-file", "");
    v->vddk_libdir = text_of(file, group, "vddk-libdir", "/opt/vmware-vix-disklib-distrib");
    v->transports = text_of(file, group, "transports", "nbdssl:nbd");
    v->compression = text_of(file, group, "compression", "none");
    const char *complaint = url_complaint(v->url);
    if (complaint != NULL)
        return bad(path, v->name, "url", error, "%s", complaint);
    if (*v->user == '\0')
        return bad(path, v->name, "user", error, "name the user to log in as");
    g_autofree char *thumbprint = text_of(file, group, "thumbprint", "");
    v->thumbprint = *thumbprint ? thumbprint_of(thumbprint) : g_strdup("");
    if (v->thumbprint == NULL)
        return bad(path, v->name, "thumbprint", error, "not a SHA-1 or SHA-256 in hex (20 or 32 bytes)");
    g_autofree char *timeout = text_of(file, group, "call-timeout", "120s");
    uint64_t ms = 0;
    if (!drover_parse_duration(timeout, &ms, NULL) || ms < 1000 || ms > 3600000)
        return bad(path, v->name, "call-timeout", error, "'%s' is not a time from 1s to 1h", timeout);
    v->call_timeout_ms = (unsigned)ms;
    g_autofree char *sessions = text_of(file, group, "sessions", "4");
    guint64 n = 0;
    if (!g_ascii_string_to_unsigned(sessions, 10, 1, 64, &n, NULL))
        return bad(path, v->name, "sessions", error, "'%s' is not a number from 1 to 64", sessions);
    v->sessions = (unsigned)n;
    static const char *const compressions[] = {"none", "zlib", "fastlz", "skipz", NULL};
    if (!g_strv_contains(compressions, v->compression))
        return bad(path, v->name, "compression", error, "'%s' is not one of none, zlib, fastlz, skipz", v->compression);
    if (!transports_are_known(v->transports))
        return bad(path, v->name, "transports", error, "'%s' is not a list of file:san:hotadd:nbdssl:nbd", v->transports);
    return bool_of(file, path, v->name, "single-link", &v->single_link, error) &&
           bool_of(file, path, v->name, "unbuffered", &v->unbuffered, error);
}

/* ---- the password ---------------------------------------------------------------------------------------------- */

/* The variable that holds the password of vCenter NAME. */
static char *environment_name(const char *name)
{
    g_autofree char *upper = g_ascii_strup(name, -1);
    for (char *c = upper; *c; c++)
        if (!g_ascii_isalnum(*c))
            *c = '_';
    return g_strdup_printf("DROVER_VCENTER_%s_PASSWORD", upper);
}

static bool bad_password(const DroverVcenter *v, GError **error, const char *why)
{
    return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VCENTER-PASSWORD: password file %s of vCenter %s: %s",
                       v->password_file, v->name, why);
}

static bool read_password_file(DroverVcenter *v, GError **error)
{
    int fd = open(v->password_file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return bad_password(v, error, g_strerror(errno));
    struct stat st;
    char text[PASSWORD_MAX + 1] = "";
    ssize_t len = 0, n = 0;
    bool sound = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    bool closed = sound && (st.st_mode & 077) == 0;
    while (closed && len < PASSWORD_MAX && (n = read(fd, text + len, (size_t)(PASSWORD_MAX - len))) > 0)
        len += n;
    close(fd);
    if (!sound)
        return bad_password(v, error, "is not a file");
    if (!closed)
        return bad_password(v, error, "others can read it; chmod 600 it");
    text[strcspn(text, "\r\n")] = '\0';
    v->password = g_strdup(text);
    explicit_bzero(text, sizeof text);
    if (*v->password == '\0' || len == PASSWORD_MAX)
        return bad_password(v, error, len == PASSWORD_MAX ? "is longer than a password" : "has no password in its first line");
    return true;
}

static bool take_password(DroverVcenter *v, GError **error)
{
    g_autofree char *variable = environment_name(v->name);
    const char *given = g_getenv(variable);
    if (given != NULL && *given) {
        v->password = g_strdup(given);
        v->password_file[0] = '\0';
        return true;
    }
    if (*v->password_file)
        return read_password_file(v, error);
    return drover_fail(error, DROVER_ERROR_PERMANENT,
                       "DRV-VCENTER-PASSWORD: no password for vCenter %s: set password-file, or %s in the environment",
                       v->name, variable);
}

DroverVcenter *drover_vcenter_load(const char *path, const char *name, GError **error)
{
    g_autoptr(GKeyFile) file = open_file(path, error);
    if (file == NULL)
        return NULL;
    g_autofree char *group = g_strconcat(GROUP, name, NULL);
    g_auto(GStrv) keys = g_key_file_get_keys(file, group, NULL, NULL);
    if (keys == NULL) {
        g_auto(GStrv) names = drover_vcenter_names(path, NULL);
        g_autofree char *list = names && *names ? g_strjoinv(", ", names) : g_strdup("none");
        drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VCENTER-UNKNOWN: no vCenter '%s' in %s; it has: %s", name, path, list);
        return NULL;
    }
    for (char **key = keys; *key; key++) {
        if (!g_strv_contains(keys_known, *key)) {
            bad(path, name, *key, error, "there is no such key");
            return NULL;
        }
    }
    g_autoptr(DroverVcenter) vcenter = g_new0(DroverVcenter, 1);
    vcenter->name = g_strdup(name);
    if (!take_values(vcenter, file, path, group, error) || !take_password(vcenter, error))
        return NULL;
    return g_steal_pointer(&vcenter);
}
