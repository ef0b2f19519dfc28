/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "cli/session.h"
#include "lib/base/error.h"

/* Given, installed, beside the program as installed elsewhere, or in the source tree above a build directory. */
static char *find_list(const char *given)
{
    if (given)
        return g_strdup(given);
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *bin = self ? g_path_get_dirname(self) : g_strdup("/usr/bin");
    g_autofree char *beside = g_build_filename(bin, "..", "share", "drover", "topics.yaml", NULL);
    if (g_file_test(beside, G_FILE_TEST_EXISTS))
        return g_steal_pointer(&beside);
    for (g_autofree char *up = g_strdup(bin); strcmp(up, "/") != 0;) {
        char *candidate = g_build_filename(up, "deploy", "topics.yaml", NULL);
        if (g_file_test(candidate, G_FILE_TEST_EXISTS))
            return candidate;
        g_free(candidate);
        char *parent = g_path_get_dirname(up);
        g_free(up);
        up = parent;
    }
    return g_strdup("/usr/share/drover/topics.yaml");
}

static void report(const char *topic, const char *outcome, void *user_data)
{
    (void)user_data;
    g_print("%-40s %s\n", topic, outcome);
}

static DroverExitCode run(const DroverCommand *command, int argc, char **argv)
{
    g_autofree char *file = NULL;
    const GOptionEntry flags[] = {
        {"file", 0, 0, G_OPTION_ARG_FILENAME, &file, "The list of topics (default: the installed topics.yaml)", "FILE"},
        {NULL},
    };
    g_auto(DroverSession) session = {0};
    DroverExitCode code;
    if (!drover_session_open(&session, command, flags, argc, argv, 1, 1, &code))
        return code;
    bool check = strcmp(session.argv[0], "check") == 0;
    if (!check && strcmp(session.argv[0], "apply") != 0)
        return drover_session_usage(&session, "'%s' is neither apply nor check", session.argv[0]);
    g_autoptr(GError) error = NULL;
    g_autofree char *path = find_list(file);
    if (!drover_session_kafka(&session, &error) ||
        !drover_topics_apply(session.kafka, path, drover_config_list(session.config, "fleet.sites"),
                             drover_config_list(session.config, "fleet.agents"), check, report, NULL, &error))
        return drover_session_fail(&session, error);
    return DROVER_EXIT_OK;
}

const DroverCommand drover_command_topics = {
    .name = "topics",
    .synopsis = "apply|check",
    .summary = "create the topics on Kafka, or compare them",
    .description = "apply creates the topics that are missing and sets their declared settings; check changes nothing.\n"
                   "[fleet] sites and agents say for whom. Exits with 5 when something differs.",
    .run = run,
};
