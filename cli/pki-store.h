/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory of a fleet's certificates:
 *
 *   ca.crt     the authority, for everybody
 *   ca.key     its key, 0600, for whoever issues; no process of the fleet needs it
 *   NAME.pem   one process: its private key and its certificate in one file, 0600, so that a renewal replaces
 * both at once
 *
 * Files are replaced by renaming, after they have reached the disk. Functions block; errors are PERMANENT.
 */
#ifndef DROVER_CLI_PKI_STORE_H
#define DROVER_CLI_PKI_STORE_H

#include "cli/pki-certificate.h"

/* Makes DIR (0700 if missing) and an authority in it. Refused when there is one. */
bool drover_pki_init(const char *dir, const char *name, int64_t now, int64_t life_seconds, GError **error);

/* Issues NAME.pem. Refused when there is one. *PATH is newly allocated. */
bool drover_pki_issue(const char *dir, const DroverPkiSubject *subject, int64_t now, int64_t life_seconds,
                      char **path, GError **error);

/* Replaces NAME.pem by one with a new key; LIFE_SECONDS 0: as long as the old one was good for. */
bool drover_pki_renew(const char *dir, const char *name, int64_t now, int64_t life_seconds, GError **error);

/* True when a third of the life of CERTIFICATE, or less, is left. */
bool drover_pki_is_due(X509 *certificate, int64_t now);

typedef struct {
    char *name; /* file name without ".pem"; "ca" for the authority */
    X509 *certificate;
} DroverPkiEntry;

/* The authority first, then the others by name; elements free themselves. */
GPtrArray *drover_pki_list(const char *dir, GError **error);

#endif
