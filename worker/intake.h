/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes tasks from drover.tasks.<site>.source and .copy. Offset first, synchronously, then the claim: a task whose
 * offset could not be committed is dropped, because somebody else will get it; so an attempt has at most one executor.
 * The thread that polls never waits for a copy.
 */
#ifndef DROVER_WORKER_INTAKE_H
#define DROVER_WORKER_INTAKE_H

#include <stdbool.h>

#include "worker/control.h"
#include "worker/heartbeat.h"
#include "worker/slots.h"
#include "worker/worker.h"

/* Joins the group and takes tasks until draining begins, then leaves the group. Blocks. False: could not join. */
bool drover_intake_run(DroverWorker *worker, DroverControl *control, DroverSlots *slots, DroverHeart *heart,
                       GError **error);

#endif
