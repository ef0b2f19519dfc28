/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/session.h"

#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/error.h"
#include "lib/vsphere/vcenter.h"

void drover_session_clear(DroverSession *session)
{
    g_clear_pointer(&session->redis, drover_redis_free);
    g_clear_pointer(&session->kafka, drover_kafka_free);
    g_clear_pointer(&session->config, drover_config_free);
}

static char *describe(const DroverCommand *command, const GOptionEntry *flags)
{
    GString *out = g_string_new(command->description);
    for (const GOptionEntry *f = flags; f && f->long_name; f++) {
        if (f == flags)
            g_string_append(out, "\n\nOptions of this command:");
        g_string_append_printf(out, "\n  --%s%s%s\n      %s", f->long_name, f->arg_description ? "=" : "",
                               f->arg_description ? f->arg_description : "", f->description);
    }
    return g_string_free(out, FALSE);
}

/* Takes the command's own flags out of argv and leaves the rest for the configuration. */
static bool take_flags(const GOptionEntry *flags, int *argc, char ***argv, GError **error)
{
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_option_context_set_help_enabled(context, FALSE);
    g_option_context_set_ignore_unknown_options(context, TRUE);
    g_option_context_add_main_entries(context, flags, NULL);
    return g_option_context_parse(context, argc, argv, error);
}

bool drover_session_open(DroverSession *session, const DroverCommand *command, const GOptionEntry *flags, int argc,
                         char **argv, int min_args, int max_args, DroverExitCode *code)
{
    static const DroverOption *const tables[] = {drover_fleet_options, drover_redis_options, drover_vsphere_options, NULL};
    g_autoptr(GError) error = NULL;
    *session = (DroverSession){.command = command};
    *code = DROVER_EXIT_USAGE;
    g_autofree char *program = g_strconcat("drover ", command->name, NULL);
    g_autofree char *description = describe(command, flags);
    if (flags && !take_flags(flags, &argc, &argv, &error)) {
        drover_session_usage(session, "%s", error->message);
        return false;
    }
    session->config = drover_config_parse(program, command->synopsis, description, tables, &argc, &argv, &error);
    if (!session->config) {
        drover_session_usage(session, "%s", error->message);
        return false;
    }
    session->argc = argc - 1;
    session->argv = argv + 1;
    if (session->argc < min_args || session->argc > max_args) {
        if (session->argc > max_args)
            drover_session_usage(session, "unexpected argument '%s'", session->argv[max_args]);
        else
            drover_session_usage(session, "%s is missing", command->synopsis);
        return false;
    }
    *code = DROVER_EXIT_OK;
    return true;
}

bool drover_session_kafka(DroverSession *session, GError **error)
{
    g_autofree char *name = g_strdup_printf("drover-cli-%d", (int)getpid());
    session->kafka = drover_kafka_new(session->config, name, error);
    return session->kafka != NULL;
}

bool drover_session_redis(DroverSession *session, GError **error)
{
    session->redis = drover_redis_new(session->config, error);
    return session->redis && drover_redis_connect(session->redis, error);
}

DroverExitCode drover_session_fail(const DroverSession *session, const GError *error)
{
    g_printerr("drover %s: %s\n", session->command->name, error->message);
    return drover_error_class(error) == DROVER_ERROR_RETRYABLE ? DROVER_EXIT_UNREACHABLE : DROVER_EXIT_REFUSED;
}

DroverExitCode drover_session_usage(const DroverSession *session, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *message = g_strdup_vprintf(format, args);
    va_end(args);
    g_printerr("drover %s: %s\nSee: drover %s --help\n", session->command->name, message, session->command->name);
    return DROVER_EXIT_USAGE;
}
