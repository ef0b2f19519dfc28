/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The threads that execute tasks: one a slot, alive as long as the pool, since children die with the thread that
 * started them. What may run is decided by the running table; the pool only has enough threads for it.
 */
#ifndef DROVER_WORKER_SLOTS_H
#define DROVER_WORKER_SLOTS_H

#include "worker/worker.h"

typedef struct DroverSlots DroverSlots;

DroverSlots *drover_slots_new(DroverWorker *worker, GError **error);
/* Hands RUNNING to a free thread; the thread ends the table's entry when the task has ended. Does not block. */
void drover_slots_run(DroverSlots *slots, DroverRunning *running);
/* Waits for the threads; nothing may run any more or it is waited for. NULL is allowed. */
void drover_slots_free(DroverSlots *slots);

#endif
