/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/pki-certificate.h"

#include <arpa/inet.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

#include "lib/base/error.h"
#include "lib/base/ids.h"

#define SERIAL_BITS 127 /* positive in 16 bytes; random, so that no counter has to be kept */

G_DEFINE_AUTOPTR_CLEANUP_FUNC(BIO, BIO_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BIGNUM, BN_free)

const DroverPkiRole drover_pki_roles[] = {
    {"worker", false, true, true, "a copy worker; writes volumes through the front door"},
    {"agent", true, true, true,
     "a volume agent with its REST API; its site is its own name unless told otherwise"},
    {"scheduler", true, true, false, "a scheduler with its REST API"},
    {"aggregator", false, true, false, "a progress aggregator"},
    {"operator", false, true, false, "a person or script: drover, REST clients"},
    {"kafka", true, true, false, "a Kafka broker"},
    {"frontdoor", true, false, false, "HAProxy on port 443"},
    {NULL, false, false, false, NULL},
};

const DroverPkiRole *drover_pki_role(const char *name)
{
    for (const DroverPkiRole *role = drover_pki_roles; role->name; role++)
        if (g_strcmp0(role->name, name) == 0)
            return role;
    return NULL;
}

static bool crypto_fail(GError **error, const char *what)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    ERR_clear_error();
    return drover_fail(error, DROVER_ERROR_PERMANENT, "%s: %s", what,
                       reason ? reason : "OpenSSL says no more");
}

/* ---- who it is for
 * -------------------------------------------------------------------------------------------- */

static bool dns_is_valid(const char *name)
{
    if (g_str_has_prefix(name, "*."))
        name += 2;
    return *name && strlen(name) <= 253 && *name != '.' && *name != '-' && !strstr(name, "..") &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") == strlen(name);
}

static bool ip_is_valid(const char *text)
{
    unsigned char address[16];
    return inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1;
}

bool drover_pki_subject_check(const DroverPkiSubject *subject, GError **error)
{
    const DroverPkiRole *role = subject->role;
    bool has_site = subject->site && *subject->site;
    if (!drover_id_is_valid(subject->name))
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "'%s' is no name: letters, digits, '.', '_' and '-', at most 64", subject->name);
    if (has_site && !drover_site_is_valid(subject->site))
        return drover_fail(error, DROVER_ERROR_PERMANENT, "'%s' is no site: a-z, 0-9 and '-', at most 40",
                           subject->site);
    if (role->needs_site && !has_site)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "A %s needs --site: what it may touch depends on it", role->name);
    for (const char *const *name = subject->dns; name && *name; name++)
        if (!dns_is_valid(*name))
            return drover_fail(error, DROVER_ERROR_PERMANENT, "'%s' is no DNS name", *name);
    for (const char *const *ip = subject->ip; ip && *ip; ip++)
        if (!ip_is_valid(*ip))
            return drover_fail(error, DROVER_ERROR_PERMANENT, "'%s' is no IP address", *ip);
    bool has_names = (subject->dns && *subject->dns) || (subject->ip && *subject->ip);
    if (role->server && !has_names)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "A %s needs --dns or --ip: what clients connect to",
                           role->name);
    return true;
}

static char *names_for_extension(const DroverPkiSubject *subject)
{
    g_autoptr(GString) out = g_string_new(NULL);
    for (const char *const *name = subject->dns; name && *name; name++)
        g_string_append_printf(out, "%sDNS:%s", out->len ? "," : "", *name);
    for (const char *const *ip = subject->ip; ip && *ip; ip++)
        g_string_append_printf(out, "%sIP:%s", out->len ? "," : "", *ip);
    return g_string_free(g_steal_pointer(&out), FALSE);
}

/* ---- making
 * --------------------------------------------------------------------------------------------------- */

EVP_PKEY *drover_pki_key_new(GError **error)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    if (!key)
        crypto_fail(error, "No key can be made");
    return key;
}

static bool add_name_part(X509_NAME *name, const char *field, const char *value)
{
    return !value || !*value ||
           X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8, (const unsigned char *)value, -1, -1, 0) ==
               1;
}

static bool add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    bool ok = extension && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return ok;
}

static bool set_serial(X509 *certificate)
{
    g_autoptr(BIGNUM) number = BN_new();
    return number && BN_rand(number, SERIAL_BITS, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
           BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL;
}

static X509 *start(EVP_PKEY *key, int64_t now, int64_t life_seconds)
{
    g_autoptr(X509) certificate = X509_new();
    bool ok =
        certificate && X509_set_version(certificate, X509_VERSION_3) == 1 && set_serial(certificate) &&
        ASN1_TIME_set(X509_getm_notBefore(certificate), (time_t)(now - DROVER_PKI_CLOCK_SKEW_SECONDS)) &&
        ASN1_TIME_set(X509_getm_notAfter(certificate), (time_t)(now + life_seconds)) &&
        X509_set_pubkey(certificate, key) == 1;
    return ok ? g_steal_pointer(&certificate) : NULL;
}

X509 *drover_pki_authority_new(EVP_PKEY *key, const char *name, int64_t now, int64_t life_seconds,
                               GError **error)
{
    g_autoptr(X509) certificate = start(key, now, life_seconds);
    bool ok = certificate && add_name_part(X509_get_subject_name(certificate), "CN", name) &&
              X509_set_issuer_name(certificate, X509_get_subject_name(certificate)) == 1 &&
              add_extension(certificate, certificate, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
              add_extension(certificate, certificate, NID_key_usage, "critical,keyCertSign,cRLSign") &&
              add_extension(certificate, certificate, NID_subject_key_identifier, "hash") &&
              X509_sign(certificate, key, EVP_sha256()) > 0;
    if (!ok)
        crypto_fail(error, "The authority's certificate cannot be made");
    return ok ? g_steal_pointer(&certificate) : NULL;
}

static bool finish(X509 *certificate, X509 *authority, EVP_PKEY *authority_key)
{
    return X509_set_issuer_name(certificate, X509_get_subject_name(authority)) == 1 &&
           add_extension(certificate, authority, NID_basic_constraints, "critical,CA:FALSE") &&
           add_extension(certificate, authority, NID_key_usage, "critical,digitalSignature") &&
           add_extension(certificate, authority, NID_subject_key_identifier, "hash") &&
           add_extension(certificate, authority, NID_authority_key_identifier, "keyid:always") &&
           X509_sign(certificate, authority_key, EVP_sha256()) > 0;
}

static int64_t shorter(int64_t life_seconds, int64_t now, X509 *authority)
{
    return MIN(life_seconds, drover_pki_not_after(authority) - now);
}

X509 *drover_pki_certificate_new(EVP_PKEY *key, const DroverPkiSubject *subject, int64_t now,
                                 int64_t life_seconds, X509 *authority, EVP_PKEY *authority_key,
                                 GError **error)
{
    if (!drover_pki_subject_check(subject, error))
        return NULL;
    const DroverPkiRole *role = subject->role;
    g_autofree char *names = names_for_extension(subject);
    const char *uses = role->server && role->client ? "serverAuth,clientAuth"
                       : role->server               ? "serverAuth"
                                                    : "clientAuth";
    g_autoptr(X509) certificate = start(key, now, shorter(life_seconds, now, authority));
    X509_NAME *name = certificate ? X509_get_subject_name(certificate) : NULL;
    bool ok = certificate && add_name_part(name, "O", subject->site) &&
              add_name_part(name, "OU", role->name) && add_name_part(name, "CN", subject->name) &&
              add_extension(certificate, authority, NID_ext_key_usage, uses) &&
              (!*names || add_extension(certificate, authority, NID_subject_alt_name, names)) &&
              finish(certificate, authority, authority_key);
    if (!ok)
        crypto_fail(error, "The certificate cannot be made");
    return ok ? g_steal_pointer(&certificate) : NULL;
}

static bool copy_extension(X509 *to, X509 *from, int nid)
{
    int at = X509_get_ext_by_NID(from, nid, -1);
    return at < 0 || X509_add_ext(to, X509_get_ext(from, at), -1) == 1;
}

X509 *drover_pki_certificate_again(EVP_PKEY *key, X509 *model, int64_t now, int64_t life_seconds,
                                   X509 *authority, EVP_PKEY *authority_key, GError **error)
{
    g_autoptr(X509) certificate = start(key, now, shorter(life_seconds, now, authority));
    bool ok = certificate && X509_set_subject_name(certificate, X509_get_subject_name(model)) == 1 &&
              copy_extension(certificate, model, NID_ext_key_usage) &&
              copy_extension(certificate, model, NID_subject_alt_name) &&
              finish(certificate, authority, authority_key);
    if (!ok)
        crypto_fail(error, "The certificate cannot be renewed");
    return ok ? g_steal_pointer(&certificate) : NULL;
}

/* ---- reading
 * -------------------------------------------------------------------------------------------------- */

char *drover_pki_subject_part(X509 *certificate, int nid)
{
    X509_NAME *name = X509_get_subject_name(certificate);
    int at = X509_NAME_get_index_by_NID(name, nid, -1);
    unsigned char *text = NULL;
    int len =
        at < 0 ? -1 : ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
    char *copy = len < 0 ? g_strdup("") : g_strndup((const char *)text, (gsize)len);
    OPENSSL_free(text);
    return copy;
}

char *drover_pki_alternative_names(X509 *certificate)
{
    g_autoptr(GString) out = g_string_new(NULL);
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        char address[INET6_ADDRSTRLEN];
        if (name->type == GEN_DNS) {
            g_string_append_printf(out, "%sDNS:%.*s", out->len ? "," : "",
                                   ASN1_STRING_length(name->d.dNSName),
                                   ASN1_STRING_get0_data(name->d.dNSName));
        } else if (name->type == GEN_IPADD) {
            int family = ASN1_STRING_length(name->d.iPAddress) == 4 ? AF_INET : AF_INET6;
            if (inet_ntop(family, ASN1_STRING_get0_data(name->d.iPAddress), address, sizeof address))
                g_string_append_printf(out, "%sIP:%s", out->len ? "," : "", address);
        }
    }
    GENERAL_NAMES_free(names);
    return g_string_free(g_steal_pointer(&out), FALSE);
}

static int64_t unix_seconds(const ASN1_TIME *time)
{
    struct tm parts = {0};
    return ASN1_TIME_to_tm(time, &parts) == 1 ? (int64_t)timegm(&parts) : 0;
}

int64_t drover_pki_not_before(X509 *certificate)
{
    return unix_seconds(X509_get0_notBefore(certificate));
}

int64_t drover_pki_not_after(X509 *certificate)
{
    return unix_seconds(X509_get0_notAfter(certificate));
}

char *drover_pki_pem(EVP_PKEY *key, X509 *certificate, GError **error)
{
    g_autoptr(BIO) out = BIO_new(BIO_s_mem());
    bool ok = out && (!key || PEM_write_bio_PKCS8PrivateKey(out, key, NULL, NULL, 0, NULL, NULL) == 1) &&
              (!certificate || PEM_write_bio_X509(out, certificate) == 1);
    if (!ok) {
        crypto_fail(error, "PEM cannot be written");
        return NULL;
    }
    char *text = NULL;
    long len = BIO_get_mem_data(out, &text);
    char *copy = g_strndup(text, (gsize)len);
    if (key)
        OPENSSL_cleanse(text, (size_t)len);
    return copy;
}

X509 *drover_pki_certificate_read(const char *pem, GError **error)
{
    g_autoptr(BIO) in = BIO_new_mem_buf(pem, -1);
    X509 *certificate = in ? PEM_read_bio_X509(in, NULL, NULL, NULL) : NULL;
    if (!certificate)
        crypto_fail(error, "No certificate can be read");
    return certificate;
}

static int no_passphrase(char *buffer, int size, int writing, void *data)
{
    (void)buffer, (void)size, (void)writing, (void)data;
    return -1; /* OpenSSL would ask on the terminal */
}

EVP_PKEY *drover_pki_key_read(const char *pem, GError **error)
{
    g_autoptr(BIO) in = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *key = in ? PEM_read_bio_PrivateKey(in, NULL, no_passphrase, NULL) : NULL;
    if (!key)
        crypto_fail(error, "No private key can be read");
    return key;
}
