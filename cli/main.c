/* SPDX-License-Identifier: Apache-2.0 */
#include <locale.h>
#include <string.h>

#include "cli/command.h"

static const DroverCommand *const commands[] = {
    &drover_command_migrate, &drover_command_submit, &drover_command_jobs,     &drover_command_show,
    &drover_command_watch,   &drover_command_log,    &drover_command_failover, &drover_command_pause,
    &drover_command_resume,  &drover_command_cancel, &drover_command_cleanup,  &drover_command_sync,
    &drover_command_discover, &drover_command_cbt_status, &drover_command_preflight, &drover_command_assess,
    &drover_command_fleet,   &drover_command_agent,
    &drover_command_dlq,     &drover_command_topics,
    &drover_command_pki,     &drover_command_frontdoor,
};

static void help(void)
{
    g_print("Usage: drover COMMAND [options] [arguments]\n\nMoves VMware VMs to Apache CloudStack.\n\nCommands:\n");
    for (guint i = 0; i < G_N_ELEMENTS(commands); i++)
        g_print("  %-10s %-22s %s\n", commands[i]->name, commands[i]->synopsis, commands[i]->summary);
    g_print("\n  drover COMMAND --help tells more.\n\n"
            "Exit codes: 0 done, 1 the job failed, 2 usage, 3 Kafka, Redis or vCenter cannot be reached,\n"
            "4 no such job, 5 refused, 130 interrupted.\n");
}

int main(int argc, char **argv)
{
    setlocale(LC_ALL, "");
    if (argc < 2 || strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        help();
        return argc < 2 ? DROVER_EXIT_USAGE : DROVER_EXIT_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        g_print("drover %s\n", DROVER_VERSION);
        return DROVER_EXIT_OK;
    }
    for (guint i = 0; i < G_N_ELEMENTS(commands); i++)
        if (strcmp(argv[1], commands[i]->name) == 0)
            return commands[i]->run(commands[i], argc - 1, argv + 1);
    g_printerr("drover: there is no command '%s'; see drover --help\n", argv[1]);
    return DROVER_EXIT_USAGE;
}
