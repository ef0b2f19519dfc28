/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates of a fleet (X.509, EC P-256, SHA-256): one authority, and one certificate for each process.
 * Who a process is stands in the subject, where HAProxy and Kafka can read it: CN its name, OU its role, O
 * its site. No files here.
 */
#ifndef DROVER_CLI_PKI_CERTIFICATE_H
#define DROVER_CLI_PKI_CERTIFICATE_H

#include <glib.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdint.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(X509, X509_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_PKEY, EVP_PKEY_free)

/* A certificate begins so long before it is made, so that it is good at once on machines whose clocks are
 * late. */
#define DROVER_PKI_CLOCK_SKEW_SECONDS 300

typedef struct {
    const char *name;
    bool server;     /* accepts connections: needs a DNS name or an address */
    bool client;     /* opens connections */
    bool needs_site; /* what it may touch depends on its site */
    const char *who; /* for people */
} DroverPkiRole;

/* Ends with an element whose name is NULL. */
extern const DroverPkiRole drover_pki_roles[];
const DroverPkiRole *drover_pki_role(const char *name); /* NULL: none */

typedef struct {
    const DroverPkiRole *role;
    const char *name;       /* [A-Za-z0-9._-]{1,64} */
    const char *site;       /* NULL or "": none */
    const char *const *dns; /* NULL-terminated, or NULL */
    const char *const *ip;  /* NULL-terminated, or NULL */
} DroverPkiSubject;

/* PERMANENT when SUBJECT is not well formed or lacks what its role needs. */
bool drover_pki_subject_check(const DroverPkiSubject *subject, GError **error);

EVP_PKEY *drover_pki_key_new(GError **error);

/* An authority that signs itself, valid from NOW (Unix seconds) for LIFE_SECONDS. */
X509 *drover_pki_authority_new(EVP_PKEY *key, const char *name, int64_t now, int64_t life_seconds,
                               GError **error);

/* A certificate for KEY, valid from NOW for LIFE_SECONDS, never longer than that of the AUTHORITY that signs
 * it. */
X509 *drover_pki_certificate_new(EVP_PKEY *key, const DroverPkiSubject *subject, int64_t now,
                                 int64_t life_seconds, X509 *authority, EVP_PKEY *authority_key,
                                 GError **error);

/* One with subject, names and uses of MODEL, for another KEY and time. */
X509 *drover_pki_certificate_again(EVP_PKEY *key, X509 *model, int64_t now, int64_t life_seconds,
                                   X509 *authority, EVP_PKEY *authority_key, GError **error);

/* What a certificate says. Newly allocated; "" for what is missing. */
char *drover_pki_subject_part(X509 *certificate, int nid);
char *drover_pki_alternative_names(X509 *certificate); /* "DNS:a,IP:10.0.0.1" */
int64_t drover_pki_not_before(X509 *certificate);      /* Unix seconds */
int64_t drover_pki_not_after(X509 *certificate);

/* PEM, newly allocated. The key is PKCS #8, which Kafka wants. */
char *drover_pki_pem(EVP_PKEY *key, X509 *certificate, GError **error); /* either may be NULL */
X509 *drover_pki_certificate_read(const char *pem, GError **error);
EVP_PKEY *drover_pki_key_read(const char *pem, GError **error);

#endif
