/* SPDX-License-Identifier: Apache-2.0 */
/* The private directory of one worker process, where its children's sockets live. */
#ifndef DROVER_WORKER_RUNDIR_H
#define DROVER_WORKER_RUNDIR_H

#include <glib.h>

typedef struct DroverRunDir DroverRunDir;

/*
 * Makes BASE/NAME (mode 0700), locks it and removes the sockets that a killed process of that name has left. PERMANENT
 * when another process of that name holds it, or it cannot be made.
 */
DroverRunDir *drover_run_dir_open(const char *base, const char *name, GError **error);
const char *drover_run_dir_path(const DroverRunDir *dir);
/* Releases the lock, keeps the directory. NULL is allowed. */
void drover_run_dir_close(DroverRunDir *dir);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverRunDir, drover_run_dir_close)

#endif
