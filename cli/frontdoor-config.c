/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/frontdoor-config.h"

#include <string.h>

#include "lib/base/error.h"
#include "lib/base/ids.h"

#define LETTERS_AND_DIGITS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

typedef struct {
    char *name;
    char *address;
} Route;

static void route_clear(gpointer data)
{
    Route *route = data;
    g_free(route->name);
    g_free(route->address);
}

/* ---- what is let into the file
 * -------------------------------------------------------------------------------- */

static bool is_made_of(const char *text, const char *characters)
{
    return *text && strspn(text, characters) == strlen(text);
}

/* A word of haproxy.cfg that needs no quotes and means nothing but itself. */
static bool check_word(const char *what, const char *text, GError **error)
{
    return is_made_of(text, LETTERS_AND_DIGITS "._:/@[]*-") ||
           drover_fail(error, DROVER_ERROR_PERMANENT,
                       "[frontdoor] %s: '%s' is empty or has characters that are not allowed", what, text);
}

static bool check_words(const char *what, const char *const *words, GError **error)
{
    for (; *words; words++)
        if (!check_word(what, *words, error))
            return false;
    return true;
}

static GArray *parse_routes(const char *what, const char *const *texts, GHashTable *seen, GError **error)
{
    g_autoptr(GArray) routes = g_array_new(FALSE, FALSE, sizeof(Route));
    g_array_set_clear_func(routes, route_clear);
    for (; *texts; texts++) {
        const char *equals = strchr(*texts, '=');
        g_autofree char *name = equals ? g_ascii_strdown(*texts, equals - *texts) : g_strdup("");
        if (!is_made_of(name, LETTERS_AND_DIGITS ".-") || !equals[1]) {
            drover_fail(error, DROVER_ERROR_PERMANENT, "[frontdoor] %s: '%s' is not SERVER-NAME=ADDRESS",
                        what, *texts);
            return NULL;
        }
        if (!check_word(what, equals + 1, error))
            return NULL;
        if (!g_hash_table_add(seen, g_strdup(name))) {
            drover_fail(error, DROVER_ERROR_PERMANENT, "[frontdoor] %s: the name %s stands there twice", what,
                        name);
            return NULL;
        }
        Route route = {g_steal_pointer(&name), g_strdup(equals + 1)};
        g_array_append_val(routes, route);
    }
    return g_steal_pointer(&routes);
}

static bool check(const DroverFrontdoor *f, GError **error)
{
    if (!*f->listen || !*f->sites || !*f->rest_roles)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "[frontdoor] listen, sites and rest-roles must not be empty");
    for (const char *const *site = f->sites; *site; site++)
        if (!drover_site_is_valid(*site))
            return drover_fail(error, DROVER_ERROR_PERMANENT, "[frontdoor] sites: '%s' is no site", *site);
    return check_word("name", f->name, error) && check_words("listen", f->listen, error) &&
           check_words("rest-roles", f->rest_roles, error) &&
           check_word("certificate", f->certificate, error) && check_word("authority", f->authority, error) &&
           check_word("run-dir", f->admin_socket, error) && (!*f->user || check_word("user", f->user, error));
}

/* ---- the file
 * ------------------------------------------------------------------------------------------------- */

static void add_names(GString *out, const GArray *routes)
{
    for (guint i = 0; i < routes->len; i++)
        g_string_append_printf(out, " %s", g_array_index(routes, Route, i).name);
}

static void add_words(GString *out, const char *const *words)
{
    for (; *words; words++)
        g_string_append_printf(out, " %s", *words);
}

static void add_global(GString *out, const DroverFrontdoor *f)
{
    g_string_append_printf(out,
                           "# Made by 'drover frontdoor config' from the section [frontdoor] of drover.conf: "
                           "change that, not this.\n"
                           "global\n"
                           "    log stderr format raw daemon info\n"
                           "    stats socket %s mode 600 level admin expose-fd listeners\n",
                           f->admin_socket);
    if (*f->user)
        g_string_append_printf(out, "    user %s\n", f->user);
    g_string_append(
        out, "    # After a reload the old process keeps its connections; engines connect again when it is "
             "ended.\n"
             "    hard-stop-after 24h\n"
             "    ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets\n"
             "    ssl-default-bind-ciphersuites "
             "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256\n"
             "    ssl-default-bind-ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384\n"
             "    # A resumed session would keep a certificate alive that has expired since: every "
             "connection shows it again.\n"
             "    tune.ssl.cachesize 0\n"
             "    # NBD moves in large pieces: a third less work than with 16 KiB.\n"
             "    tune.bufsize 65536\n"
             "\n"
             "defaults\n"
             "    log global\n"
             "    mode tcp\n"
             "    maxconn 4000\n"
             "    # Until a connection leads somewhere it has a minute; then it may be idle for a day, while "
             "keep-alives of TCP\n"
             "    # find out within a minute that the other side is gone.\n"
             "    timeout client 1m\n"
             "    timeout server 1m\n"
             "    timeout client-fin 30s\n"
             "    timeout server-fin 30s\n"
             "    timeout tunnel 24h\n"
             "    timeout connect 5s\n"
             "    option clitcpka\n"
             "    clitcpka-idle 30s\n"
             "    clitcpka-intvl 10s\n"
             "    clitcpka-cnt 3\n"
             "    option srvtcpka\n"
             "    srvtcpka-idle 30s\n"
             "    srvtcpka-intvl 10s\n"
             "    srvtcpka-cnt 3\n"
             "    # One try a second: bridges the restart of what is behind.\n"
             "    retries 15\n");
    g_string_append_printf(
        out, "    default-server inter %" G_GUINT64_FORMAT "ms fastinter 2s downinter 2s rise 1 fall 3\n",
        f->check_interval_ms);
}

static void add_listen(GString *out, const DroverFrontdoor *f, const char *more)
{
    for (const char *const *address = f->listen; *address; address++)
        g_string_append_printf(out, "    bind %s tcp-ut 30s%s\n", *address, more);
}

/* With Kafka the name that a client asks for decides before anything is decrypted; what ends here takes a
 * second hop inside HAProxy then. */
static void add_passage(GString *out, const DroverFrontdoor *f, const GArray *kafka, bool more)
{
    g_string_append(out, "\nfrontend frontdoor\n");
    add_listen(out, f, "");
    g_string_append(out, "    option tcplog\n"
                         "    tcp-request inspect-delay 10s\n"
                         "    tcp-request content accept if { req.ssl_hello_type 1 }\n"
                         "    tcp-request content reject\n");
    for (guint i = 0; i < kafka->len; i++)
        g_string_append_printf(out, "    use_backend kafka-%s if { req.ssl_sni -i %s }\n",
                               g_array_index(kafka, Route, i).name, g_array_index(kafka, Route, i).name);
    if (more)
        g_string_append_printf(out,
                               "    use_backend to-tls if { req.ssl_sni -m found }\n"
                               "\nbackend to-tls\n    server here abns@drover-%s-tls send-proxy-v2\n",
                               f->name);
}

static void add_routing(GString *out, const char *kind, const GArray *routes)
{
    for (guint i = 0; i < routes->len; i++)
        g_string_append_printf(out, "    use_backend %s-%s if { ssl_fc_sni -i %s }\n", kind,
                               g_array_index(routes, Route, i).name, g_array_index(routes, Route, i).name);
}

/* Where TLS of NBD and REST ends. */
static void add_tls(GString *out, const DroverFrontdoor *f, bool behind_passage, const GArray *nbd,
                    const GArray *rest)
{
    g_autofree char *tls =
        g_strdup_printf(" ssl crt %s ca-file %s verify required", f->certificate, f->authority);
    g_string_append(out, "\nfrontend tls\n");
    if (behind_passage)
        g_string_append_printf(out, "    bind abns@drover-%s-tls accept-proxy%s\n", f->name, tls);
    else
        add_listen(out, f, tls);
    g_string_append(out, "    log-format \"%ci:%cp [%t] %b/%s %Tw/%Tc/%Tt %U/%B %ts name=%[ssl_fc_sni] "
                         "client=%{+Q}[ssl_c_s_dn]\"\n");
    if (nbd->len > 0) {
        g_string_append(
            out, "    # NBD is for workers, and for those of our sites only.\n    acl nbd ssl_fc_sni -i");
        add_names(out, nbd);
        g_string_append(
            out, "\n    acl worker ssl_c_s_dn(OU) -m str worker\n    acl our-site ssl_c_s_dn(O) -m str");
        add_words(out, f->sites);
        g_string_append(out, "\n");
    }
    if (rest->len > 0) {
        g_string_append(out, "    acl rest ssl_fc_sni -i");
        add_names(out, rest);
        g_string_append(out, "\n    acl rest-role ssl_c_s_dn(OU) -m str");
        add_words(out, f->rest_roles);
        g_string_append(out, "\n");
    }
    g_string_append_printf(out, "    tcp-request content reject unless %s%s%s\n",
                           nbd->len ? "nbd worker our-site" : "", nbd->len && rest->len ? " or " : "",
                           rest->len ? "rest rest-role" : "");
    add_routing(out, "nbd", nbd);
    if (rest->len > 0)
        g_string_append_printf(out,
                               "    use_backend to-rest if rest\n"
                               "\nbackend to-rest\n    server here abns@drover-%s-rest send-proxy-v2 "
                               "proxy-v2-options authority\n",
                               f->name);
}

static void add_kafka(GString *out, const GArray *routes)
{
    for (guint i = 0; i < routes->len; i++)
        g_string_append_printf(out,
                               "\n# Passed through: the broker itself sees the client's certificate.\n"
                               "backend kafka-%s\n"
                               "    server broker %s check tcp-ut 30s\n",
                               g_array_index(routes, Route, i).name, g_array_index(routes, Route, i).address);
}

static void add_nbd(GString *out, const GArray *routes)
{
    for (guint i = 0; i < routes->len; i++)
        g_string_append_printf(
            out,
            "\nbackend nbd-%s\n"
            "    # nbdkit greets; the check says goodbye (NBD_OPT_ABORT), which leaves nothing in its log.\n"
            "    option tcp-check\n"
            "    tcp-check expect binary 4e42444d41474943\n"
            "    tcp-check send-binary 0000000349484156454f50540000000200000000\n"
            "    server nbdkit %s check tcp-ut 30s\n",
            g_array_index(routes, Route, i).name, g_array_index(routes, Route, i).address);
}

static void add_rest(GString *out, const DroverFrontdoor *f, const GArray *routes)
{
    if (routes->len == 0)
        return;
    g_string_append_printf(out,
                           "\nfrontend rest\n"
                           "    mode http\n"
                           "    bind abns@drover-%s-rest accept-proxy\n"
                           "    option httplog\n"
                           "    timeout http-request 10s\n"
                           "    timeout http-keep-alive 1m\n"
                           "    http-request del-header X-Forwarded-For\n"
                           "    option forwardfor\n",
                           f->name);
    for (guint i = 0; i < routes->len; i++)
        g_string_append_printf(out, "    use_backend rest-%s if { fc_pp_authority -i %s }\n",
                               g_array_index(routes, Route, i).name, g_array_index(routes, Route, i).name);
    for (guint i = 0; i < routes->len; i++)
        g_string_append_printf(out,
                               "\nbackend rest-%s\n"
                               "    mode http\n"
                               "    # ?wait= holds an answer back\n"
                               "    timeout server 1h\n"
                               "    server api %s check tcp-ut 30s\n",
                               g_array_index(routes, Route, i).name, g_array_index(routes, Route, i).address);
}

char *drover_frontdoor_config(const DroverFrontdoor *frontdoor, GError **error)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    if (!check(frontdoor, error))
        return NULL;
    g_autoptr(GArray) kafka = parse_routes("kafka", frontdoor->kafka, seen, error);
    g_autoptr(GArray) nbd = kafka ? parse_routes("nbd", frontdoor->nbd, seen, error) : NULL;
    g_autoptr(GArray) rest = nbd ? parse_routes("rest", frontdoor->rest, seen, error) : NULL;
    if (!rest)
        return NULL;
    if (kafka->len + nbd->len + rest->len == 0) {
        drover_fail(error, DROVER_ERROR_PERMANENT,
                    "[frontdoor] kafka, nbd and rest are all empty: the door leads nowhere");
        return NULL;
    }
    g_autoptr(GString) out = g_string_new(NULL);
    add_global(out, frontdoor);
    bool ends_here = nbd->len + rest->len > 0;
    if (kafka->len > 0)
        add_passage(out, frontdoor, kafka, ends_here);
    add_kafka(out, kafka);
    if (ends_here)
        add_tls(out, frontdoor, kafka->len > 0, nbd, rest);
    add_nbd(out, nbd);
    add_rest(out, frontdoor, rest);
    return g_string_free(g_steal_pointer(&out), FALSE);
}
