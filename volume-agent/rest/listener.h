/* SPDX-License-Identifier: Apache-2.0 */
/* One HTTP daemon with one set of certificate files. When the files change there are two for a while: the old
 * one ends its requests, the new one has the socket. */
#ifndef DROVER_VOLUME_AGENT_REST_LISTENER_H
#define DROVER_VOLUME_AGENT_REST_LISTENER_H

#include "volume-agent/rest/api.h"
#include "volume-agent/rest/settings.h"

typedef struct DroverRestListener DroverRestListener;

/* PEM texts; all NULL: plain HTTP. CLIENT_CA may be NULL. */
typedef struct {
    char *certificate;
    char *key;
    char *client_ca;
} DroverRestPem;
void drover_rest_pem_clear(DroverRestPem *pem);

/* Serves FD, a listening socket, which stays the caller's. Takes PEM, also on failure: RETRYABLE never,
 * PERMANENT when it cannot be used. */
DroverRestListener *drover_rest_listener_start(const DroverRestSettings *settings, DroverRestApi *api, int fd,
                                               DroverRestPem *pem, GError **error);
/* Accepts no more. */
void drover_rest_listener_quiesce(DroverRestListener *listener);
/* Requests that have begun and are not answered. */
unsigned drover_rest_listener_active(DroverRestListener *listener);
/* Ends connections that are slower than allowed. To be called every second or so. */
void drover_rest_listener_sweep(DroverRestListener *listener);
/* Ends all connections. */
void drover_rest_listener_free(DroverRestListener *listener);

#endif
