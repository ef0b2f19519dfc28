/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/rest/access.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "lib/base/log.h"

#define DIGEST_LEN 32
#define LONGEST_TOKEN 512
#define LOOK_AGAIN_US 500000

typedef struct {
    char *name;
    DroverRestRole role;
    char *salt;
    unsigned char digest[DIGEST_LEN];
} Entry;

struct DroverRestTokens {
    GPtrArray *entries;
};

static const char *const role_names[] = {"public", "read", "operate", "admin"};

const char *drover_rest_role_name(DroverRestRole role)
{
    return role_names[role];
}

bool drover_rest_role_allows(DroverRestRole has, DroverRestRole needs)
{
    return has >= needs;
}

/* ---- tokens
 * --------------------------------------------------------------------------------------------------- */

static void entry_free(gpointer data)
{
    Entry *entry = data;
    g_free(entry->name);
    g_free(entry->salt);
    g_free(entry);
}

static bool read_digest(const char *hex, unsigned char *digest)
{
    if (strlen(hex) != 2 * DIGEST_LEN)
        return false;
    for (int i = 0; i < DIGEST_LEN; i++) {
        int high = g_ascii_xdigit_value(hex[2 * i]), low = g_ascii_xdigit_value(hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        digest[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

/* NULL, or what is wrong with it. */
static const char *read_entry(Entry *entry, char **words)
{
    guint n = g_strv_length(words);
    if (n != 3)
        return "it must be NAME ROLE sha256:HEX";
    if (!drover_id_is_valid(words[0]))
        return "the name may have letters, digits, '.', '_' and '-' only";
    entry->name = g_strdup(words[0]);
    for (DroverRestRole role = DROVER_REST_READ; role <= DROVER_REST_ADMIN; role++)
        if (strcmp(words[1], role_names[role]) == 0)
            entry->role = role;
    if (entry->role == DROVER_REST_PUBLIC)
        return "the role must be read, operate or admin";
    g_auto(GStrv) parts = g_strsplit(words[2], ":", -1);
    guint n_parts = g_strv_length(parts);
    if (n_parts < 2 || n_parts > 3 || strcmp(parts[0], "sha256") != 0 ||
        !read_digest(parts[n_parts - 1], entry->digest))
        return "the digest must be sha256:HEX or sha256:SALT:HEX with 64 hex digits";
    entry->salt = g_strdup(n_parts == 3 ? parts[1] : "");
    return NULL;
}

static char **words_of(const char *line)
{
    g_auto(GStrv) parts = g_strsplit_set(line, " \t\r", -1);
    GPtrArray *words = g_ptr_array_new();
    for (char **part = parts; *part; part++)
        if (**part)
            g_ptr_array_add(words, g_strdup(*part));
    g_ptr_array_add(words, NULL);
    return (char **)g_ptr_array_free(words, FALSE);
}

DroverRestTokens *drover_rest_tokens_parse(const char *text, GError **error)
{
    g_autoptr(DroverRestTokens) tokens = g_new0(DroverRestTokens, 1);
    tokens->entries = g_ptr_array_new_with_free_func(entry_free);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (guint i = 0; lines[i]; i++) {
        g_auto(GStrv) words = words_of(lines[i]);
        if (!words[0] || words[0][0] == '#')
            continue;
        Entry *entry = g_new0(Entry, 1);
        g_ptr_array_add(tokens->entries, entry);
        const char *problem = read_entry(entry, words);
        for (guint k = 0; !problem && k + 1 < tokens->entries->len; k++)
            if (strcmp(((Entry *)g_ptr_array_index(tokens->entries, k))->name, entry->name) == 0)
                problem = "the name stands on an earlier line, too";
        if (problem) {
            drover_fail(error, DROVER_ERROR_PERMANENT, "line %u: %s", i + 1, problem);
            return NULL;
        }
    }
    if (tokens->entries->len == 0) {
        drover_fail(error, DROVER_ERROR_PERMANENT, "it holds no token");
        return NULL;
    }
    return g_steal_pointer(&tokens);
}

void drover_rest_tokens_free(DroverRestTokens *tokens)
{
    if (!tokens)
        return;
    g_ptr_array_unref(tokens->entries);
    g_free(tokens);
}

static void digest_of(const char *salt, const char *token, unsigned char *digest)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) && EVP_DigestUpdate(md, salt, strlen(salt)) &&
              EVP_DigestUpdate(md, token, strlen(token)) && EVP_DigestFinal_ex(md, digest, NULL);
    EVP_MD_CTX_free(md);
    g_assert(ok);
}

bool drover_rest_tokens_find(const DroverRestTokens *tokens, const char *presented, char **name,
                             DroverRestRole *role)
{
    if (strlen(presented) > LONGEST_TOKEN)
        return false;
    const Entry *found = NULL;
    for (guint i = 0; i < tokens->entries->len; i++) {
        const Entry *entry = g_ptr_array_index(tokens->entries, i);
        unsigned char digest[DIGEST_LEN];
        digest_of(entry->salt, presented, digest);
        if (CRYPTO_memcmp(digest, entry->digest, DIGEST_LEN) == 0)
            found = entry;
    }
    if (!found)
        return false;
    *name = g_strdup(found->name);
    *role = found->role;
    return true;
}

const char *drover_rest_bearer(const char *header)
{
    if (!header || g_ascii_strncasecmp(header, "Bearer ", 7) != 0)
        return NULL;
    const char *token = header + 7;
    while (*token == ' ')
        token++;
    return *token ? token : NULL;
}

/* ---- keyring
 * -------------------------------------------------------------------------------------------------- */

struct DroverRestKeyring {
    char *path;
    GMutex lock;
    DroverRestTokens *tokens; /* NULL: none are wanted */
    struct stat seen;
    gint64 looked_us;
};

static DroverRestTokens *load(DroverRestKeyring *keyring, GError **error)
{
    g_autofree char *text = NULL;
    g_autoptr(DroverRestTokens) tokens = NULL;
    struct stat st = {0};
    if (stat(keyring->path, &st) == 0 && (st.st_mode & (S_IWOTH | S_IWGRP)))
        drover_fail(error, DROVER_ERROR_PERMANENT, "others may write to it: chmod 640 it");
    else if (g_file_get_contents(keyring->path, &text, NULL, error))
        tokens = drover_rest_tokens_parse(text, error);
    keyring->seen = st;
    if (!tokens)
        g_prefix_error(error, "Token file %s: ", keyring->path);
    return g_steal_pointer(&tokens);
}

DroverRestKeyring *drover_rest_keyring_new(const char *path, GError **error)
{
    DroverRestKeyring *keyring = g_new0(DroverRestKeyring, 1);
    g_mutex_init(&keyring->lock);
    keyring->path = g_strdup(path);
    if (*path && !(keyring->tokens = load(keyring, error)))
        g_clear_pointer(&keyring, drover_rest_keyring_free);
    return keyring;
}

void drover_rest_keyring_free(DroverRestKeyring *keyring)
{
    if (!keyring)
        return;
    drover_rest_tokens_free(keyring->tokens);
    g_mutex_clear(&keyring->lock);
    g_free(keyring->path);
    g_free(keyring);
}

/* Called with the lock held. */
static void refresh(DroverRestKeyring *keyring)
{
    gint64 now_us = g_get_monotonic_time();
    if (now_us - keyring->looked_us < LOOK_AGAIN_US)
        return;
    keyring->looked_us = now_us;
    struct stat st = {0};
    (void)stat(keyring->path, &st);
    const struct stat *seen = &keyring->seen;
    if (st.st_ino == seen->st_ino && st.st_size == seen->st_size && st.st_mode == seen->st_mode &&
        st.st_mtim.tv_sec == seen->st_mtim.tv_sec && st.st_mtim.tv_nsec == seen->st_mtim.tv_nsec)
        return;
    g_autoptr(GError) error = NULL;
    DroverRestTokens *tokens = load(keyring, &error);
    if (!tokens) {
        drover_error("rest.tokens", error->message);
        return;
    }
    drover_rest_tokens_free(keyring->tokens);
    keyring->tokens = tokens;
    drover_info("rest.tokens", "Read the token file again", F_S("path", keyring->path));
}

bool drover_rest_keyring_find(DroverRestKeyring *keyring, const char *presented, char **name,
                              DroverRestRole *role)
{
    if (!*keyring->path) {
        *name = g_strdup("local");
        *role = DROVER_REST_ADMIN;
        return true;
    }
    g_mutex_lock(&keyring->lock);
    refresh(keyring);
    bool found = presented && drover_rest_tokens_find(keyring->tokens, presented, name, role);
    g_mutex_unlock(&keyring->lock);
    return found;
}
