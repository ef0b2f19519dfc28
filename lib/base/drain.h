/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Orderly end of a process: the first SIGTERM or SIGINT asks it to drain (finish or hand back what runs), the second
 * ends it at once with exit code 143/130. SIGPIPE is ignored. SIGHUP asks for a reload.
 */
#ifndef DROVER_LIB_BASE_DRAIN_H
#define DROVER_LIB_BASE_DRAIN_H

#include <stdbool.h>

/* Blocks the signals for all threads started later and handles them in one of its own. Call first in main(). */
void drover_drain_install(void);
bool drover_drain_requested(void);  /* any thread */
bool drover_reload_requested(void); /* true once per SIGHUP */
void drover_drain_request(void);    /* as if SIGTERM had come */
/* A file descriptor that becomes readable, and stays so, when draining begins; for poll(). Owned by the module. */
int drover_drain_fd(void);
/* Sleeps up to MS milliseconds, less when draining begins. Returns drover_drain_requested(). */
bool drover_drain_wait(unsigned ms);

/*
 * For the child between fork and exec (GSpawnChildSetupFunc; async-signal-safe): gives the child an empty signal mask,
 * since it would inherit our blocked SIGTERM, default SIGPIPE, and lets it die with us (PR_SET_PDEATHSIG SIGKILL, which
 * watches the *thread* that forked: spawn from one that lives as long as the child should).
 */
void drover_drain_child_setup(void *unused);

#endif
