/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How CloudStack wants a request signed (signatureVersion 3), exactly as its server checks it: parameters sorted by their
 * raw, case-sensitive names; values as Java's URLEncoder writes them, with %20 for a space ('*' stays raw, '~' is %7E);
 * the joined string in lower case; HMAC-SHA1 with the secret key; base64. Pure.
 */
#ifndef DROVER_VOLUME_AGENT_CLOUDSTACK_SIGNING_H
#define DROVER_VOLUME_AGENT_CLOUDSTACK_SIGNING_H

#include <glib.h>

/* VALUE encoded; newly allocated. */
char *drover_cloudstack_encode(const char *value);

/*
 * The body of a POST: PARAMETERS (name -> value, the apiKey among them) in sorted order, then the signature; newly allocated.
 * Names are encoded, too, so that one that comes from a job (a VM's detail) cannot add parameters of its own; what is signed
 * has them as the server decodes them.
 */
char *drover_cloudstack_sign(GHashTable *parameters, const char *secret_key);

#endif
