/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server that a source runs for itself: its end is seen at once, its last words are kept, and nothing of it stays behind.
 * How it is started differs (child.c, worker/vsphere/vddk.c); from then on it is treated here. One thread at a time.
 */
#ifndef DROVER_WORKER_SOURCE_PROCESS_H
#define DROVER_WORKER_SOURCE_PROCESS_H

#include <glib.h>
#include <stdbool.h>

typedef struct {
    const char *name; /* of the program, for messages; static */
    GPid pid;         /* -1 until it is started */
    int pidfd;        /* -1 on kernels that have none */
    int output;       /* memfd for its standard error: a pipe would block it when nobody reads */
    char *socket_path;
    bool reaped;
} DroverProcess;

/* Takes SOCKET_PATH, which must fit into a socket's address: DRV-WORKER-RUN-DIR if it does not. */
bool drover_process_init(DroverProcess *process, const char *name, char *socket_path, GError **error);
/* PID has been started, as a child that GLib does not reap. */
void drover_process_started(DroverProcess *process, GPid pid);
/* Waits up to TIMEOUT_MS for its end, and reaps it. */
bool drover_process_ended(DroverProcess *process, int timeout_ms);
/* DRV-SOURCE-CHILD (retryable) with its last words when it has ended. Does not block. */
bool drover_process_alive(DroverProcess *process, GError **error);
/* The last 2 KiB of what it said, on one line, secrets blackened; newly allocated, "" when nothing. */
char *drover_process_output(const DroverProcess *process);
/* SIGTERM, and SIGKILL after GRACE_MS; reaps it, removes its socket, frees what *PROCESS holds. Also if it was never started. */
void drover_process_clear(DroverProcess *process, int grace_ms);

#endif
