/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "cli/session.h"

#define VISIBLE_MS 15000

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
    g_ptr_array_add(user_data, g_strdup(topic));
    g_print("%-40s %s\n", topic, outcome);
}

/* A broker answers "created" before it can tell others about the topic. Who subscribes in between is left without it
 * until the next refresh of metadata, half a minute later. */
static bool wait_until_visible(const DroverKafka *kafka, const GPtrArray *topics, GError **error)
{
    g_autoptr(DroverConsumer) consumer = drover_consumer_new_manual(kafka, error);
    if (!consumer)
        return false;
    int64_t deadline = g_get_monotonic_time() + VISIBLE_MS * 1000;
    for (guint i = 0; i < topics->len;) {
        g_autoptr(GError) why = NULL;
        if (drover_kafka_partition_count(consumer, g_ptr_array_index(topics, i), 1000, &why) > 0) {
            i++;
        } else if (g_get_monotonic_time() > deadline) {
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        } else {
            g_usleep(20 * 1000);
        }
    }
    return true;
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
    g_autoptr(GPtrArray) topics = g_ptr_array_new_with_free_func(g_free);
    if (!drover_session_kafka(&session, &error) ||
        !drover_topics_apply(session.kafka, path, drover_config_list(session.config, "fleet.sites"),
                             drover_config_list(session.config, "fleet.agents"), check, report, topics, &error) ||
        (!check && !wait_until_visible(session.kafka, topics, &error)))
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
