/* SPDX-License-Identifier: Apache-2.0 */
/* One record from any input topic changes the world. What cannot be read goes to the dead letters and stops
 * nothing. */
#ifndef DROVER_SCHEDULER_APPLY_H
#define DROVER_SCHEDULER_APPLY_H

#include "lib/kafka/kafka.h"
#include "scheduler/world.h"

/* A topic whose offsets are part of the state (drover.jobs, drover.events.*); the others are read from their
 * beginning by every new leader, because what they say is the same whenever it is read. */
bool apply_is_input(const char *topic);

void apply_record(World *world, const DroverRecord *record);

#endif
