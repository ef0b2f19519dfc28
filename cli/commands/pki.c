/* SPDX-License-Identifier: Apache-2.0 */
#include <openssl/obj_mac.h>
#include <string.h>

#include "cli/pki-store.h"
#include "cli/session.h"
#include "lib/base/ids.h"

#define DAY_SECONDS INT64_C(86400)
#define AUTHORITY_DAYS 3650
#define CERTIFICATE_DAYS 30
#define MOST_DAYS 36500

typedef struct {
    char *role, *name, *site;
    char **dns, **ip;
    int days;
    gboolean all;
} Flags;

static void flags_clear(Flags *flags)
{
    g_free(flags->role);
    g_free(flags->name);
    g_free(flags->site);
    g_strfreev(flags->dns);
    g_strfreev(flags->ip);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Flags, flags_clear)

static int64_t now_seconds(void)
{
    return drover_now_ms() / 1000;
}

static DroverExitCode init(const DroverSession *session, const Flags *flags)
{
    g_autoptr(GError) error = NULL;
    if (!drover_pki_init(session->argv[1], flags->name ? flags->name : "Drover", now_seconds(),
                         (flags->days ? flags->days : AUTHORITY_DAYS) * DAY_SECONDS, &error))
        return drover_session_fail(session, error);
    g_print("%s/ca.crt\n", session->argv[1]);
    g_printerr("Keep %s/ca.key where no process of the fleet runs; everybody gets ca.crt.\n",
               session->argv[1]);
    return DROVER_EXIT_OK;
}

static char *list_of_roles(void)
{
    g_autoptr(GString) out = g_string_new(NULL);
    for (const DroverPkiRole *role = drover_pki_roles; role->name; role++)
        g_string_append_printf(out, "%s%s", out->len ? ", " : "", role->name);
    return g_string_free(g_steal_pointer(&out), FALSE);
}

static DroverExitCode issue(const DroverSession *session, const Flags *flags)
{
    g_autoptr(GError) error = NULL;
    const DroverPkiRole *role = drover_pki_role(flags->role);
    if (!role) {
        g_autofree char *roles = list_of_roles();
        return drover_session_usage(session, "issue needs --role=ROLE, one of %s", roles);
    }
    if (!flags->name)
        return drover_session_usage(session, "issue needs --name=NAME");
    /* An agent publishes under a site of its own, by default of its own name. */
    const char *site = flags->site || strcmp(role->name, "agent") != 0 ? flags->site : flags->name;
    const DroverPkiSubject subject = {role, flags->name, site, (const char *const *)flags->dns,
                                      (const char *const *)flags->ip};
    if (!drover_pki_subject_check(&subject, &error))
        return drover_session_usage(session, "%s", error->message);
    g_autofree char *path = NULL;
    if (!drover_pki_issue(session->argv[1], &subject, now_seconds(),
                          (flags->days ? flags->days : CERTIFICATE_DAYS) * DAY_SECONDS, &path, &error))
        return drover_session_fail(session, error);
    g_print("%s\n", path);
    return DROVER_EXIT_OK;
}

static DroverExitCode renew_one(const DroverSession *session, const Flags *flags, const char *name)
{
    g_autoptr(GError) error = NULL;
    if (!drover_pki_renew(session->argv[1], name, now_seconds(), flags->days * DAY_SECONDS, &error))
        return drover_session_fail(session, error);
    g_print("%s/%s.pem\n", session->argv[1], name);
    return DROVER_EXIT_OK;
}

static DroverExitCode renew(const DroverSession *session, const Flags *flags)
{
    const char *dir = session->argv[1];
    DroverExitCode worst = DROVER_EXIT_OK;
    for (int i = 2; i < session->argc; i++) {
        DroverExitCode code = renew_one(session, flags, session->argv[i]);
        worst = code ? code : worst;
    }
    if (session->argc > 2)
        return worst;
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) list = drover_pki_list(dir, &error);
    if (!list)
        return drover_session_fail(session, error);
    for (guint i = 1; i < list->len; i++) {
        const DroverPkiEntry *entry = g_ptr_array_index(list, i);
        if (!flags->all && !drover_pki_is_due(entry->certificate, now_seconds()))
            continue;
        DroverExitCode code = renew_one(session, flags, entry->name);
        worst = code ? code : worst;
    }
    return worst;
}

static char *time_left(int64_t not_after)
{
    int64_t left = not_after - now_seconds();
    if (left <= 0)
        return g_strdup("expired");
    return left >= 2 * DAY_SECONDS ? g_strdup_printf("%" G_GINT64_FORMAT " days", left / DAY_SECONDS)
                                   : g_strdup_printf("%" G_GINT64_FORMAT " hours", left / 3600);
}

static DroverExitCode show(const DroverSession *session)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) list = drover_pki_list(session->argv[1], &error);
    if (!list)
        return drover_session_fail(session, error);
    g_print("%-24s %-10s %-16s %-20s %-10s %s\n", "NAME", "ROLE", "SITE", "EXPIRES", "LEFT", "NAMES");
    for (guint i = 0; i < list->len; i++) {
        const DroverPkiEntry *entry = g_ptr_array_index(list, i);
        g_autofree char *role = i == 0
                                    ? g_strdup("authority")
                                    : drover_pki_subject_part(entry->certificate, NID_organizationalUnitName);
        g_autofree char *site = drover_pki_subject_part(entry->certificate, NID_organizationName);
        g_autofree char *names = drover_pki_alternative_names(entry->certificate);
        int64_t not_after = drover_pki_not_after(entry->certificate);
        g_autoptr(GDateTime) at = g_date_time_new_from_unix_utc(not_after);
        g_autofree char *expires = g_date_time_format(at, "%Y-%m-%dT%H:%M:%SZ");
        g_autofree char *left = time_left(not_after);
        g_print("%-24s %-10s %-16s %-20s %-10s %s\n", entry->name, role, *site ? site : "-", expires, left,
                *names ? names : "-");
    }
    return DROVER_EXIT_OK;
}

static DroverExitCode run(const DroverCommand *command, int argc, char **argv)
{
    g_auto(Flags) flags = {0};
    const GOptionEntry entries[] = {
        {"role", 0, 0, G_OPTION_ARG_STRING, &flags.role,
         "issue: worker, agent, scheduler, aggregator, operator, kafka or frontdoor", "ROLE"},
        {"name", 0, 0, G_OPTION_ARG_STRING, &flags.name,
         "issue: name of the process; init: name of the authority", "NAME"},
        {"site", 0, 0, G_OPTION_ARG_STRING, &flags.site,
         "issue: where it belongs (worker: required; agent: its name)", "SITE"},
        {"dns", 0, 0, G_OPTION_ARG_STRING_ARRAY, &flags.dns,
         "issue: a name that clients connect to; may be repeated", "NAME"},
        {"ip", 0, 0, G_OPTION_ARG_STRING_ARRAY, &flags.ip,
         "issue: an address that clients connect to; may be repeated", "ADDRESS"},
        {"days", 0, 0, G_OPTION_ARG_INT, &flags.days,
         "How long it is good for (init: 3650, issue: 30, renew: as long as before)", "N"},
        {"all", 0, 0, G_OPTION_ARG_NONE, &flags.all, "renew: also what is not due yet", NULL},
        {NULL},
    };
    g_auto(DroverSession) session = {0};
    DroverExitCode code;
    if (!drover_session_open(&session, command, entries, argc, argv, 2, G_MAXINT, &code))
        return code;
    const char *action = session.argv[0];
    if (flags.days < 0 || flags.days > MOST_DAYS)
        return drover_session_usage(&session, "--days wants 1 to %d", MOST_DAYS);
    if (strcmp(action, "renew") == 0)
        return renew(&session, &flags);
    if (session.argc > 2)
        return drover_session_usage(&session, "unexpected argument '%s'", session.argv[2]);
    if (strcmp(action, "init") == 0)
        return init(&session, &flags);
    if (strcmp(action, "issue") == 0)
        return issue(&session, &flags);
    if (strcmp(action, "show") == 0)
        return show(&session);
    return drover_session_usage(&session, "'%s' is none of init, issue, renew, show", action);
}

const DroverCommand drover_command_pki = {
    .name = "pki",
    .synopsis = "init|issue|renew|show DIR",
    .summary = "make and renew the certificates of a fleet",
    .description = "init makes an authority (DIR/ca.crt, DIR/ca.key), issue a certificate for one process "
                   "(DIR/NAME.pem: private key\n"
                   "and certificate), renew DIR [NAME...] replaces what has a third of its life left, or the "
                   "named ones, by new keys;\n"
                   "show lists all with their expiry. Processes take a renewed file up without a restart, "
                   "HAProxy through\n"
                   "'drover frontdoor rotate'. What role and site allow is in docs/network.md.",
    .run = run,
};
