/* SPDX-License-Identifier: Apache-2.0 */
/* Options of the REST API, and what of them goes together. */
#ifndef DROVER_VOLUME_AGENT_REST_SETTINGS_H
#define DROVER_VOLUME_AGENT_REST_SETTINGS_H

#include "lib/base/config.h"

extern const DroverOption drover_rest_options[]; /* [agent] rest-… */

typedef struct {
    bool on;
    const char *listen;                     /* as configured */
    _Alignas(8) unsigned char address[128]; /* a struct sockaddr_storage */
    unsigned address_len;
    const char *tokens; /* files; "": none */
    const char *certificate;
    const char *key;
    const char *client_ca;
    int64_t rate;
    int64_t burst;
    int64_t body_limit;
    int64_t connections;
    int64_t timeout_ms;
    int64_t device_slots; /* of the appliance */
} DroverRestSettings;

/*
 * Strings belong to CONFIG. PERMANENT with DRV-REST-CONFIG when they do not go together: anywhere but on the
 * loopback interface the API is served over TLS and to bearers of tokens only.
 */
bool drover_rest_settings_read(const DroverConfig *config, DroverRestSettings *settings, GError **error);

#endif
