/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/rest/settings.h"

#include <gio/gio.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "lib/base/error.h"
#include "volume-agent/rest/access.h"

#define CODE "DRV-REST-CONFIG: "
#define FILE_OPTION(name, help)                                                                              \
    {                                                                                                        \
        "agent", name, DROVER_OPTION_STRING, NULL, "FILE", help, 0                                           \
    }
#define NUMBER(name, value, help)                                                                            \
    {                                                                                                        \
        "agent", name, DROVER_OPTION_INT, value, "N", help, 0                                                \
    }

const DroverOption drover_rest_options[] = {
    {"agent", "rest-listen", DROVER_OPTION_STRING, NULL, "HOST:PORT",
     "Serve the REST API (docs/rest.md) at this address; empty: not at all", 0},
    FILE_OPTION("rest-tokens", "Who may use it: NAME ROLE sha256:HEX a line; needed unless HOST is loopback"),
    FILE_OPTION("rest-certificate", "Certificate chain in PEM; needed unless HOST is loopback"),
    FILE_OPTION("rest-key", "Its private key in PEM, mode 0600"),
    FILE_OPTION("rest-client-ca", "Callers must also show a certificate of one of these authorities (PEM)"),
    NUMBER("rest-rate", "20", "Requests a second that each token may make; 0: no limit"),
    NUMBER("rest-burst", "40", "Requests that a token may make at once, after a pause"),
    {"agent", "rest-body-limit", DROVER_OPTION_SIZE, "64K", "BYTES", "Longest body of a request", 0},
    NUMBER("rest-connections", "64", "Connections at once; each request that waits holds one"),
    {"agent", "rest-timeout", DROVER_OPTION_DURATION, "30s", "TIME",
     "A request must have arrived whole, and its answer been read, within this time", 0},
    DROVER_OPTION_END,
};

static bool resolve(DroverRestSettings *settings, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(GSocketConnectable) parsed = g_network_address_parse(settings->listen, 0, &why);
    if (!parsed || strrchr(settings->listen, ':') == NULL)
        return drover_fail(error, DROVER_ERROR_PERMANENT, CODE "[agent] rest-listen '%s' is not HOST:PORT",
                           settings->listen);
    const char *host = g_network_address_get_hostname(G_NETWORK_ADDRESS(parsed));
    g_autofree char *port = g_strdup_printf("%u", g_network_address_get_port(G_NETWORK_ADDRESS(parsed)));
    const struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int rc = getaddrinfo(host, port, &hints, &found);
    if (rc != 0)
        return drover_fail(error, DROVER_ERROR_PERMANENT, CODE "[agent] rest-listen '%s': %s",
                           settings->listen, gai_strerror(rc));
    g_assert(found->ai_addrlen <= sizeof settings->address);
    memcpy(settings->address, found->ai_addr, found->ai_addrlen);
    settings->address_len = found->ai_addrlen;
    freeaddrinfo(found);
    return true;
}

static bool is_loopback(const DroverRestSettings *settings)
{
    g_autoptr(GSocketAddress) address =
        g_socket_address_new_from_native((gpointer)settings->address, settings->address_len);
    return G_IS_INET_SOCKET_ADDRESS(address) &&
           g_inet_address_get_is_loopback(g_inet_socket_address_get_address(G_INET_SOCKET_ADDRESS(address)));
}

/* What can be known before anything is started. */
static bool check_files(const DroverRestSettings *settings, GError **error)
{
    struct stat st;
    if (*settings->key && stat(settings->key, &st) == 0 && (st.st_mode & 077))
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           CODE "key file %s can be read by others: chmod 600 it", settings->key);
    DroverRestKeyring *keyring = drover_rest_keyring_new(settings->tokens, error);
    bool ok = keyring != NULL;
    drover_rest_keyring_free(keyring);
    if (!ok)
        g_prefix_error(error, CODE);
    return ok;
}

bool drover_rest_settings_read(const DroverConfig *config, DroverRestSettings *settings, GError **error)
{
    *settings = (DroverRestSettings){
        .listen = drover_config_string(config, "agent.rest-listen"),
        .tokens = drover_config_string(config, "agent.rest-tokens"),
        .certificate = drover_config_string(config, "agent.rest-certificate"),
        .key = drover_config_string(config, "agent.rest-key"),
        .client_ca = drover_config_string(config, "agent.rest-client-ca"),
        .rate = drover_config_int(config, "agent.rest-rate"),
        .burst = drover_config_int(config, "agent.rest-burst"),
        .body_limit = drover_config_int(config, "agent.rest-body-limit"),
        .connections = drover_config_int(config, "agent.rest-connections"),
        .timeout_ms = drover_config_int(config, "agent.rest-timeout"),
        .device_slots = drover_config_int(config, "agent.device-slots"),
    };
    settings->on = *settings->listen != '\0';
    if (!settings->on)
        return true;
    if (!resolve(settings, error))
        return false;
    if ((*settings->certificate == '\0') != (*settings->key == '\0'))
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           CODE "[agent] rest-certificate and rest-key need each other");
    if (*settings->client_ca && !*settings->certificate)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           CODE "[agent] rest-client-ca needs rest-certificate and rest-key");
    if (!is_loopback(settings) && !*settings->certificate)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           CODE "[agent] rest-listen %s can be reached from other machines: give "
                                "rest-certificate and rest-key, or listen on 127.0.0.1",
                           settings->listen);
    if (!is_loopback(settings) && !*settings->tokens)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           CODE "[agent] rest-listen %s can be reached from other machines: give "
                                "rest-tokens, or listen on 127.0.0.1",
                           settings->listen);
    if (settings->connections < 1 || settings->connections > 10000 || settings->body_limit < 1 ||
        settings->body_limit > (16 << 20) || settings->timeout_ms < 1000 || settings->timeout_ms > 600000)
        return drover_fail(
            error, DROVER_ERROR_PERMANENT,
            CODE
            "[agent] rest-connections must be 1 to 10000, rest-body-limit 1 to 16M, rest-timeout 1s to 10m");
    return check_files(settings, error);
}
