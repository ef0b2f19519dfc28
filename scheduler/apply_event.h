/* SPDX-License-Identifier: Apache-2.0 */
/* What workers and agents report on drover.events.*. */
#ifndef DROVER_SCHEDULER_APPLY_EVENT_H
#define DROVER_SCHEDULER_APPLY_EVENT_H

#include "lib/kafka/kafka.h"
#include "scheduler/world.h"

void apply_event(World *world, const DroverRecord *record);

/* Tasks of DISK of which every cell is read back become done, and the job goes on. */
void apply_settle_tasks(World *world, DroverJob *job, DroverDisk *disk);

/* Acts on what drover_task_failed or drover_task_check decided. */
void apply_verdict(World *world, DroverJob *job, const DroverDisk *disk, DroverTask *task, int verdict);

#endif
