/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every subcommand needs: its flags, the configuration, and how to end. Flags of a subcommand are no configuration
 * (no file and no variable sets them); --kafka-*, --redis-*, --fleet-* and --log-* are, from the same tables as in the
 * processes.
 */
#ifndef DROVER_CLI_SESSION_H
#define DROVER_CLI_SESSION_H

#include <glib.h>
#include <stdbool.h>

#include "cli/command.h"
#include "lib/base/config.h"
#include "lib/kafka/kafka.h"
#include "lib/redis/redis.h"

typedef struct {
    const DroverCommand *command;
    DroverConfig *config;
    DroverKafka *kafka; /* after drover_session_kafka */
    DroverRedis *redis; /* after drover_session_redis */
    int argc;           /* positional arguments */
    char **argv;
} DroverSession;

void drover_session_clear(DroverSession *session);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(DroverSession, drover_session_clear)

/*
 * Reads flags by FLAGS (ends with {NULL}; may be NULL; what it stores is owned by the caller) and the configuration.
 * Wants MIN_ARGS to MAX_ARGS positional arguments. False: *CODE says how to end, the message has been printed.
 * --help and --version print and exit.
 */
bool drover_session_open(DroverSession *session, const DroverCommand *command, const GOptionEntry *flags, int argc,
                         char **argv, int min_args, int max_args, DroverExitCode *code);

bool drover_session_kafka(DroverSession *session, GError **error);
bool drover_session_redis(DroverSession *session, GError **error);

/* Prints ERROR to standard error and returns the exit code for its class. */
DroverExitCode drover_session_fail(const DroverSession *session, const GError *error);
/* Prints a mistake in the usage. */
DroverExitCode drover_session_usage(const DroverSession *session, const char *format, ...) G_GNUC_PRINTF(2, 3);

#endif
