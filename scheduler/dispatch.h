/* SPDX-License-Identifier: Apache-2.0 */
/* What the leader does by itself after each batch of inputs: time-outs, home appliances, handing out,
 * read-back requests, control records, forgetting old jobs. */
#ifndef DROVER_SCHEDULER_DISPATCH_H
#define DROVER_SCHEDULER_DISPATCH_H

#include "scheduler/world.h"

/* The world's clocks are set. Everything goes to the outbox. */
void dispatch_run(World *world);

/* The batch is committed: only now can anybody claim what it hands out. */
void dispatch_written(World *world);

/* After a rebuild: all time-outs begin anew, jobs look at themselves. */
void dispatch_takeover(World *world);

#endif
