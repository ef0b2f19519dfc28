/* SPDX-License-Identifier: Apache-2.0 */
/* An NBD address in one form, with the export's full name. Holds the token: print `label` and cleaned texts
 * only. */
#ifndef DROVER_WORKER_COPY_ENDPOINT_H
#define DROVER_WORKER_COPY_ENDPOINT_H

#include "worker/copy/copy.h"

struct nbd_handle;

typedef struct {
    char *host; /* NULL for a Unix socket */
    char *port;
    char *socket_path;    /* NULL for TCP */
    char *export_name;    /* complete: with generation and token */
    char *token;          /* NULL: none */
    char *label;          /* for people: where, and the export without its token */
    DroverTlsClient *tls; /* NULL: plain */
} DroverEndpoint;

/* URI or fields to one form. NULL with a PERMANENT error; user names in URIs are refused. */
DroverEndpoint *drover_endpoint_new(const DroverCopyEndpoint *from, GError **error);
void drover_endpoint_free(DroverEndpoint *endpoint);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverEndpoint, drover_endpoint_free)

/* Begins to connect (asynchronous), without TLS. -1 as libnbd does. */
int drover_endpoint_connect(const DroverEndpoint *endpoint, struct nbd_handle *nbd);

/* TEXT (libnbd prints export names) without the token; newly allocated. NULL gives "no reason given". */
char *drover_endpoint_clean(const DroverEndpoint *endpoint, const char *text);

#endif
