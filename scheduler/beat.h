/* SPDX-License-Identifier: Apache-2.0 */
/* This process's heartbeats on drover.fleet. */
#ifndef DROVER_SCHEDULER_BEAT_H
#define DROVER_SCHEDULER_BEAT_H

#include "lib/kafka/kafka.h"
#include "scheduler/options.h"

typedef struct {
    bool leader;
    uint64_t jobs_active;
    uint64_t tasks_ready;
    uint64_t tasks_running;
} BeatStatus;

typedef struct Beat Beat;
Beat *beat_new(const DroverKafka *kafka, const SchedulerOptions *options, GError **error);
void beat_free(Beat *beat);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Beat, beat_free)

/* Queues a heartbeat when one is due, NOW is set, or the role changed. */
void beat_send(Beat *beat, const BeatStatus *status, bool now);
/* The last one of this process. */
void beat_stop(Beat *beat);

#endif
