/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP to one vCenter, over libcurl: POST and answer, cookies kept, no redirects, no proxy. The server proves itself by an
 * authority or by the pinned thumbprint of its certificate before the first byte of a request is sent. One thread at a
 * time. Blocks; CANCEL ends it at once.
 */
#ifndef DROVER_LIB_VSPHERE_HTTP_H
#define DROVER_LIB_VSPHERE_HTTP_H

#include <gio/gio.h>
#include <stdbool.h>

#include "lib/vsphere/vcenter.h"

#define DROVER_VSPHERE_ANSWER_MAX (256u << 20)

typedef struct DroverVsphereHttp DroverVsphereHttp;

/* VCENTER must live as long. */
DroverVsphereHttp *drover_vsphere_http_new(const DroverVcenter *vcenter);
void drover_vsphere_http_free(DroverVsphereHttp *http);
void drover_vsphere_http_forget_cookies(DroverVsphereHttp *http);

typedef struct {
    const char *method;  /* for messages */
    const char *version; /* "urn:vim25/8.0.2.0", the SOAPAction */
    const char *body;
    size_t len;
    unsigned timeout_ms;
    bool once; /* must not reach vCenter twice */
} DroverVspherePost;

/* Status 200 or 500 with its body in ANSWER. RETRYABLE DRV-VCENTER-UNREACHABLE, -TIMEOUT, PERMANENT -TLS, -ANSWER;
 * G_IO_ERROR_CANCELLED. */
bool drover_vsphere_http_post(DroverVsphereHttp *http, const DroverVspherePost *post, GByteArray *answer,
                              GCancellable *cancel, GError **error);

#endif
