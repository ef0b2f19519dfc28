/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nbdkit children for the engine's tests, each on a Unix socket in a directory of its own. Failures end the test program.
 * nbdkit 1.32 aborts now and then when a client leaves in the middle of an answer: then it is started again, as whoever
 * runs it must.
 */
#ifndef DROVER_TESTS_UNIT_COPY_SERVER_H
#define DROVER_TESTS_UNIT_COPY_SERVER_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "worker/copy/copy.h"

typedef struct {
    char *directory;
    char *disk; /* DIRECTORY/NAME.raw, a sparse file of zeroes at first */
    char *socket;
    char **argv;
    GMutex mutex; /* over PID: of the test, and of the keeper */
    GPid pid;     /* 0: not running */
    GThread *keeper;
    bool over;
} Server;

/* Exits with 77 (1 in CI) when nbdkit is missing. First thing in main(). */
void server_require(void);

/* A disk of SIZE bytes; not served yet. */
Server *server_new(const char *name, uint64_t size);
/* Serves the disk with nbdkit's file plugin; ARGS go between program and plugin, PARAMS behind. Waits until
 * it listens. */
void server_start(Server *server, const char *args, const char *params);
/* Serves with this nbdkit command line instead ("%s": the disk). */
void server_start_command(Server *server, const char *command);
void server_signal(Server *server, int signal_number);
void server_kill(Server *server);    /* SIGKILL, and waits */
void server_restart(Server *server); /* after server_kill, as it was */
bool server_is_running(Server *server);
void server_free(Server *server); /* kills, removes all */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Server, server_free)

DroverCopyEndpoint server_endpoint(const Server *server);

/* The disk's bytes. */
uint8_t *server_read(const Server *server, size_t *len);
void server_write(const Server *server, uint64_t offset, const void *data, size_t len);
/* Random data in about PERCENT of the disk, pieces of UNIT bytes. */
void server_fill(const Server *server, uint64_t unit, unsigned percent, uint32_t seed);

#endif
