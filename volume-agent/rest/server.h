/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transport of the REST API: libmicrohttpd with a thread for each connection, as many as the settings
 * allow. A request that has not arrived, or an answer that is not read, within [agent] rest-timeout loses its
 * connection. Renewed certificate files are served to new connections at once.
 */
#ifndef DROVER_VOLUME_AGENT_REST_SERVER_H
#define DROVER_VOLUME_AGENT_REST_SERVER_H

#include "volume-agent/rest/api.h"
#include "volume-agent/rest/settings.h"

typedef struct DroverRestServer DroverRestServer;

/* Listens from now on. SETTINGS and API must outlive the server. PERMANENT: the address is taken, the
 * certificate files cannot be used. */
DroverRestServer *drover_rest_server_start(const DroverRestSettings *settings, DroverRestApi *api,
                                           GError **error);
/* Takes no new connections, waits up to 10 s for the requests that are being handled, and ends. NULL is
 * allowed. */
void drover_rest_server_stop(DroverRestServer *server);

#endif
