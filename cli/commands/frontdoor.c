/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "cli/frontdoor-config.h"
#include "cli/frontdoor-rotate.h"
#include "cli/session.h"
#include "lib/base/config.h"
#include "lib/base/error.h"

static const DroverOption frontdoor_options[] = {
    {"frontdoor", "name", DROVER_OPTION_STRING, "frontdoor", "NAME", "Of this HAProxy on its machine", 0},
    {"frontdoor", "listen", DROVER_OPTION_LIST, ":443", "ADDRESS:PORT,...",
     "Where clients come in; \":443\": on all addresses", 0},
    {"frontdoor", "nbd", DROVER_OPTION_LIST, NULL, "SERVER-NAME=ADDRESS,...",
     "NBD servers of volume agents; workers connect to nbd+tls://SERVER-NAME:443", 0},
    {"frontdoor", "rest", DROVER_OPTION_LIST, NULL, "SERVER-NAME=ADDRESS,...",
     "REST APIs of agents and schedulers", 0},
    {"frontdoor", "kafka", DROVER_OPTION_LIST, NULL, "SERVER-NAME=ADDRESS,...",
     "Brokers, one name each; their TLS passes through", 0},
    {"frontdoor", "sites", DROVER_OPTION_LIST, NULL, "NAME,...",
     "Sites whose workers may reach NBD servers (default: all of [fleet] sites)", 0},
    {"frontdoor", "rest-roles", DROVER_OPTION_LIST, "operator,scheduler", "ROLE,...",
     "Roles of certificates that may reach REST APIs, where a token is wanted besides", 0},
    {"frontdoor", "certificate", DROVER_OPTION_STRING, "/etc/drover/pki/frontdoor.pem", "FILE",
     "Key and certificate for all server names of NBD and REST (drover pki issue --role=frontdoor)", 0},
    {"frontdoor", "authority", DROVER_OPTION_STRING, "/etc/drover/pki/ca.crt", "FILE",
     "Who signs the clients' certificates", 0},
    {"frontdoor", "run-dir", DROVER_OPTION_STRING, "/run/drover-frontdoor", "DIR",
     "For HAProxy's admin socket, NAME.haproxy.sock", 0},
    {"frontdoor", "user", DROVER_OPTION_STRING, NULL, "USER",
     "Whom HAProxy becomes after it has been started as root", 0},
    {"frontdoor", "check-interval", DROVER_OPTION_DURATION, "60s", "TIME",
     "How often servers are checked; those that failed, every 2 s", 0},
    DROVER_OPTION_END,
};

static DroverExitCode write_config(const DroverSession *session, const DroverConfig *config,
                                   const char *admin_socket)
{
    g_autoptr(GError) error = NULL;
    const char *const *sites = drover_config_list(config, "frontdoor.sites");
    const DroverFrontdoor frontdoor = {
        .name = drover_config_string(config, "frontdoor.name"),
        .listen = drover_config_list(config, "frontdoor.listen"),
        .kafka = drover_config_list(config, "frontdoor.kafka"),
        .nbd = drover_config_list(config, "frontdoor.nbd"),
        .rest = drover_config_list(config, "frontdoor.rest"),
        .sites = *sites ? sites : drover_config_list(config, "fleet.sites"),
        .rest_roles = drover_config_list(config, "frontdoor.rest-roles"),
        .certificate = drover_config_string(config, "frontdoor.certificate"),
        .authority = drover_config_string(config, "frontdoor.authority"),
        .admin_socket = admin_socket,
        .user = drover_config_string(config, "frontdoor.user"),
        .check_interval_ms = (uint64_t)drover_config_int(config, "frontdoor.check-interval"),
    };
    g_autofree char *text = drover_frontdoor_config(&frontdoor, &error);
    if (!text)
        return drover_session_usage(session, "%s", error->message);
    g_print("%s", text);
    return DROVER_EXIT_OK;
}

static DroverExitCode rotate(const DroverSession *session, const DroverConfig *config,
                             const char *admin_socket)
{
    g_autoptr(GError) error = NULL;
    const char *authority = drover_config_string(config, "frontdoor.authority");
    bool same = false;
    if (drover_frontdoor_rotate(admin_socket, drover_config_string(config, "frontdoor.certificate"),
                                &error) &&
        drover_frontdoor_trusts(admin_socket, authority, &same, &error) && !same)
        drover_fail(&error, DROVER_ERROR_PERMANENT,
                    "%s has changed: reload HAProxy (SIGUSR2 to its master process); open connections stay",
                    authority);
    return error ? drover_session_fail(session, error) : DROVER_EXIT_OK;
}

static DroverExitCode run(const DroverCommand *command, int argc, char **argv)
{
    static const DroverOption *const tables[] = {frontdoor_options, drover_fleet_options, NULL};
    const DroverSession session = {.command = command};
    g_autoptr(GError) error = NULL;
    g_autofree char *program = g_strconcat("drover ", command->name, NULL);
    g_autoptr(DroverConfig) config =
        drover_config_parse(program, command->synopsis, command->description, tables, &argc, &argv, &error);
    if (!config)
        return drover_session_usage(&session, "%s", error->message);
    if (argc != 2)
        return drover_session_usage(&session, "config or rotate, and nothing more");
    g_autofree char *file =
        g_strconcat(drover_config_string(config, "frontdoor.name"), ".haproxy.sock", NULL);
    g_autofree char *admin_socket =
        g_build_filename(drover_config_string(config, "frontdoor.run-dir"), file, NULL);
    if (strcmp(argv[1], "config") == 0)
        return write_config(&session, config, admin_socket);
    if (strcmp(argv[1], "rotate") == 0)
        return rotate(&session, config, admin_socket);
    return drover_session_usage(&session, "'%s' is neither config nor rotate", argv[1]);
}

const DroverCommand drover_command_frontdoor = {
    .name = "frontdoor",
    .synopsis = "config|rotate",
    .summary = "configure HAProxy on port 443; hand it a new certificate",
    .description = "config prints haproxy.cfg for the front door of a target site, where Kafka, NBD and REST "
                   "share one port; run it as\n"
                   "'haproxy -W -f FILE'. rotate hands the renewed certificate to the running HAProxy: new "
                   "connections use it, open ones\n"
                   "stay. See docs/network.md.",
    .run = run,
};
