/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/cloudstack/signing.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

char *drover_cloudstack_encode(const char *value)
{
    GString *out = g_string_new(NULL);
    for (const unsigned char *p = (const unsigned char *)value; *p; p++) {
        if (g_ascii_isalnum(*p) || strchr("-_.*", *p))
            g_string_append_c(out, (char)*p);
        else
            g_string_append_printf(out, "%%%02X", *p);
    }
    return g_string_free(out, FALSE);
}

static gint compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

char *drover_cloudstack_sign(GHashTable *parameters, const char *secret_key)
{
    guint n = 0;
    g_autofree const char **names = (const char **)g_hash_table_get_keys_as_array(parameters, &n);
    qsort(names, n, sizeof *names, compare_names);
    g_autoptr(GString) query = g_string_new(NULL);
    g_autoptr(GString) plain = g_string_new(NULL); /* what is signed: names as they are */
    for (guint i = 0; i < n; i++) {
        g_autofree char *name = drover_cloudstack_encode(names[i]);
        g_autofree char *value = drover_cloudstack_encode(g_hash_table_lookup(parameters, names[i]));
        g_string_append_printf(query, "%s%s=%s", i ? "&" : "", name, value);
        g_string_append_printf(plain, "%s%s=%s", i ? "&" : "", names[i], value);
    }
    g_autofree char *lower = g_ascii_strdown(plain->str, -1);
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int len = 0;
    HMAC(EVP_sha1(), secret_key, (int)strlen(secret_key), (const unsigned char *)lower, strlen(lower), digest, &len);
    g_autofree char *base64 = g_base64_encode(digest, len);
    g_autofree char *signature = drover_cloudstack_encode(base64);
    g_string_append_printf(query, "&signature=%s", signature);
    return g_string_free(g_steal_pointer(&query), FALSE);
}
