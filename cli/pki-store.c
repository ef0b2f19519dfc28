/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/pki-store.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/error.h"
#include "lib/base/ids.h"

#define SUFFIX ".pem"
#define PRIVATE_MODE 0600
#define PUBLIC_MODE 0644

typedef struct {
    X509 *certificate;
    EVP_PKEY *key;
} Authority;

static void authority_clear(Authority *authority)
{
    X509_free(authority->certificate);
    EVP_PKEY_free(authority->key);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Authority, authority_clear)

static void wipe(char *text)
{
    if (text)
        OPENSSL_cleanse(text, strlen(text));
    g_free(text);
}

static bool write_file(const char *path, const char *text, int mode, GError **error)
{
    g_autoptr(GError) why = NULL;
    if (g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE,
                                 mode, &why))
        return true;
    return drover_fail(error, DROVER_ERROR_PERMANENT, "%s", why->message);
}

static char *read_file(const char *path, GError **error)
{
    char *text = NULL;
    g_autoptr(GError) why = NULL;
    if (!g_file_get_contents(path, &text, NULL, &why))
        drover_fail(error, DROVER_ERROR_PERMANENT, "%s", why->message);
    return text;
}

static bool write_pem(const char *path, EVP_PKEY *key, X509 *certificate, GError **error)
{
    char *text = drover_pki_pem(key, certificate, error);
    bool ok = text && write_file(path, text, key ? PRIVATE_MODE : PUBLIC_MODE, error);
    wipe(text);
    return ok;
}

static X509 *read_certificate(const char *path, GError **error)
{
    char *text = read_file(path, error);
    X509 *certificate = text ? drover_pki_certificate_read(text, error) : NULL;
    if (text && !certificate)
        g_prefix_error(error, "%s: ", path);
    wipe(text);
    return certificate;
}

static bool read_authority(const char *dir, Authority *authority, GError **error)
{
    g_autofree char *certificate_path = g_build_filename(dir, "ca.crt", NULL);
    g_autofree char *key_path = g_build_filename(dir, "ca.key", NULL);
    authority->certificate = read_certificate(certificate_path, error);
    char *text = authority->certificate ? read_file(key_path, error) : NULL;
    authority->key = text ? drover_pki_key_read(text, error) : NULL;
    wipe(text);
    if (!authority->key) {
        g_prefix_error(error, "%s holds no authority that can sign (drover pki init makes one): ", dir);
        return false;
    }
    if (X509_check_private_key(authority->certificate, authority->key) != 1)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "%s does not belong to %s", key_path,
                           certificate_path);
    return true;
}

bool drover_pki_init(const char *dir, const char *name, int64_t now, int64_t life_seconds, GError **error)
{
    g_autofree char *certificate_path = g_build_filename(dir, "ca.crt", NULL);
    g_autofree char *key_path = g_build_filename(dir, "ca.key", NULL);
    if (g_mkdir_with_parents(dir, 0700) < 0)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "Directory %s cannot be made: %s", dir,
                           g_strerror(errno));
    if (g_file_test(key_path, G_FILE_TEST_EXISTS) || g_file_test(certificate_path, G_FILE_TEST_EXISTS))
        return drover_fail(error, DROVER_ERROR_PERMANENT, "%s holds an authority already", dir);
    g_autoptr(EVP_PKEY) key = drover_pki_key_new(error);
    g_autoptr(X509) certificate = key ? drover_pki_authority_new(key, name, now, life_seconds, error) : NULL;
    return certificate && write_pem(key_path, key, NULL, error) &&
           write_pem(certificate_path, NULL, certificate, error);
}

static char *entry_path(const char *dir, const char *name)
{
    g_autofree char *file = g_strconcat(name, SUFFIX, NULL);
    return g_build_filename(dir, file, NULL);
}

bool drover_pki_issue(const char *dir, const DroverPkiSubject *subject, int64_t now, int64_t life_seconds,
                      char **path, GError **error)
{
    if (!drover_pki_subject_check(subject, error))
        return false;
    g_autofree char *target = entry_path(dir, subject->name);
    if (g_file_test(target, G_FILE_TEST_EXISTS))
        return drover_fail(error, DROVER_ERROR_PERMANENT, "%s exists: renew it, or remove the file first",
                           target);
    g_auto(Authority) authority = {0};
    if (!read_authority(dir, &authority, error))
        return false;
    g_autoptr(EVP_PKEY) key = drover_pki_key_new(error);
    g_autoptr(X509) certificate =
        key ? drover_pki_certificate_new(key, subject, now, life_seconds, authority.certificate,
                                         authority.key, error)
            : NULL;
    if (!certificate || !write_pem(target, key, certificate, error))
        return false;
    *path = g_steal_pointer(&target);
    return true;
}

bool drover_pki_renew(const char *dir, const char *name, int64_t now, int64_t life_seconds, GError **error)
{
    if (!drover_id_is_valid(name))
        return drover_fail(error, DROVER_ERROR_PERMANENT, "'%s' is no name of a certificate", name);
    g_autofree char *path = entry_path(dir, name);
    g_autoptr(X509) old = read_certificate(path, error);
    g_auto(Authority) authority = {0};
    if (!old || !read_authority(dir, &authority, error))
        return false;
    if (life_seconds == 0)
        life_seconds = drover_pki_not_after(old) - drover_pki_not_before(old) - DROVER_PKI_CLOCK_SKEW_SECONDS;
    g_autoptr(EVP_PKEY) key = drover_pki_key_new(error);
    g_autoptr(X509) certificate =
        key ? drover_pki_certificate_again(key, old, now, life_seconds, authority.certificate, authority.key,
                                           error)
            : NULL;
    return certificate && write_pem(path, key, certificate, error);
}

bool drover_pki_is_due(X509 *certificate, int64_t now)
{
    int64_t from = drover_pki_not_before(certificate), to = drover_pki_not_after(certificate);
    return to - now <= (to - from) / 3;
}

static void entry_free(gpointer data)
{
    DroverPkiEntry *entry = data;
    g_free(entry->name);
    X509_free(entry->certificate);
    g_free(entry);
}

static int by_name(gconstpointer a, gconstpointer b)
{
    const DroverPkiEntry *x = *(DroverPkiEntry *const *)a, *y = *(DroverPkiEntry *const *)b;
    return strcmp(x->name, y->name);
}

static bool add_entry(GPtrArray *list, const char *path, const char *name, GError **error)
{
    X509 *certificate = read_certificate(path, error);
    if (!certificate)
        return false;
    DroverPkiEntry *entry = g_new0(DroverPkiEntry, 1);
    entry->name = g_strdup(name);
    entry->certificate = certificate;
    g_ptr_array_add(list, entry);
    return true;
}

GPtrArray *drover_pki_list(const char *dir, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(GDir) files = g_dir_open(dir, 0, &why);
    if (!files) {
        drover_fail(error, DROVER_ERROR_PERMANENT, "%s", why->message);
        return NULL;
    }
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(entry_free);
    for (const char *file; (file = g_dir_read_name(files));) {
        g_autofree char *path = g_build_filename(dir, file, NULL);
        g_autofree char *name =
            g_str_has_suffix(file, SUFFIX) ? g_strndup(file, strlen(file) - strlen(SUFFIX)) : NULL;
        if (name && !add_entry(list, path, name, error))
            return NULL;
    }
    g_ptr_array_sort(list, by_name);
    g_autofree char *authority = g_build_filename(dir, "ca.crt", NULL);
    if (!add_entry(list, authority, "ca", error))
        return NULL;
    gpointer last = g_ptr_array_steal_index(list, list->len - 1);
    g_ptr_array_insert(list, 0, last);
    return g_steal_pointer(&list);
}
