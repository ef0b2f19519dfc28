/* SPDX-License-Identifier: Apache-2.0 */
/* One subcommand of `drover`. Each lives in a file of its own under commands/ and is listed in main.c. */
#ifndef DROVER_CLI_COMMAND_H
#define DROVER_CLI_COMMAND_H

#include <glib.h>

#include "cli/exit-code.h"

typedef struct DroverCommand {
    const char *name;
    const char *synopsis; /* after the options */
    const char *summary;  /* one line, for the list of commands */
    const char *description;
    DroverExitCode (*run)(const struct DroverCommand *command, int argc, char **argv); /* argv[0]: the command's name */
} DroverCommand;

extern const DroverCommand drover_command_topics, drover_command_migrate, drover_command_submit, drover_command_jobs,
    drover_command_show, drover_command_watch, drover_command_log, drover_command_failover, drover_command_cancel,
    drover_command_pause, drover_command_resume, drover_command_cleanup, drover_command_dlq, drover_command_fleet,
    drover_command_pki, drover_command_frontdoor, drover_command_sync, drover_command_discover,
    drover_command_cbt_status, drover_command_preflight, drover_command_assess, drover_command_agent;

#endif
