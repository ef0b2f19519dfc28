/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's one NBD server: nbdkit with our plugin on one port, as a supervised child. Exports come and go without a
 * restart of it. nbdkit dies with the agent; when nbdkit dies alone it is started again and gets all its exports back,
 * under the same generations and tokens, so that clients only need to reconnect.
 *
 * All functions may be called from any thread. Tokens are kept in memory and travel over the private control socket only.
 */
#ifndef DROVER_VOLUME_AGENT_EXPORT_NBD_SERVER_H
#define DROVER_VOLUME_AGENT_EXPORT_NBD_SERVER_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const char *nbdkit;  /* program; NULL: "nbdkit" in PATH */
    const char *plugin;  /* path of nbdkit-drover-plugin.so; NULL: looked for beside the running program */
    const char *run_dir; /* for the control socket and the pid file; made with mode 0700 if missing */
    const char *name;    /* of the agent: file names in run_dir, and in log lines */
    const char *host;    /* address to listen on */
    uint16_t port;
    /* Called once, on a thread of the server's, when another process has taken over an agent of this name and run_dir: no NBD
     * server is started here any more. NULL: nobody wants to know. */
    void (*taken_over)(void);
} DroverNbdServerOptions;

typedef struct DroverNbdServer DroverNbdServer;

/*
 * Ends a left-over nbdkit of the same name and run_dir, starts a new one without exports and waits until it answers
 * (up to 15 s). Fails with PERMANENT when nbdkit or the plugin is missing or the port is taken.
 */
DroverNbdServer *drover_nbd_server_start(const DroverNbdServerOptions *options, GError **error);
/* Stops nbdkit. NULL is allowed. */
void drover_nbd_server_stop(DroverNbdServer *server);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverNbdServer, drover_nbd_server_stop)

typedef struct {
    char *volume_id;
    uint64_t generation;
    char *token; /* 32 hex digits */
    char *path;  /* device or file */
    uint64_t minimum_size_bytes;
} DroverExport;

/*
 * Opens EXPORT for writing. An older generation of the same volume is cut off first, also on connections already open;
 * returns when no write of it is in flight. The same generation again with the same token: nothing to do.
 * Errors: FENCED - a newer generation is or was open here; PERMANENT - device missing, busy (EBUSY), too small;
 * RETRYABLE - nbdkit does not answer (it is being started again).
 */
bool drover_nbd_server_open(DroverNbdServer *server, const DroverExport *export, GError **error);

/*
 * Ends writing: every request on connections of GENERATION or older fails from now on; returns when no write is in
 * flight and the device is closed. Not open, or a newer generation is: nothing to do.
 */
bool drover_nbd_server_close(DroverNbdServer *server, const char *volume_id, uint64_t generation, GError **error);

typedef struct {
    char *volume_id;
    uint64_t generation;
    bool poisoned; /* a flush failed: what was not read back is void */
    uint64_t bytes_written;
    uint64_t bytes_zeroed;
    uint64_t bytes_read;
    uint64_t requests;
    uint64_t flushes;
    uint32_t connections;
} DroverExportStat;

/* What is open now, as an array of DroverExportStat (element free function set). NULL with RETRYABLE when nbdkit does not answer. */
GArray *drover_nbd_server_stat(DroverNbdServer *server, GError **error);

/* Process id of nbdkit, 0 while it is down. */
int drover_nbd_server_pid(const DroverNbdServer *server);

#endif
