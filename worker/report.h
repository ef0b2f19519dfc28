/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a running copy task tells the fleet: checkpoints, each of which must be acknowledged, and cumulative progress,
 * which counts acknowledged cells only. One reporter with one thread serves all tasks of the worker; it repeats
 * checkpoints that Kafka gave up on and publishes progress when something changed.
 */
#ifndef DROVER_WORKER_REPORT_H
#define DROVER_WORKER_REPORT_H

#include <gio/gio.h>
#include <stdbool.h>

#include "lib/kafka/kafka.h"
#include "worker/codec.h"

typedef struct DroverReporter DroverReporter;
typedef struct DroverTaskReport DroverTaskReport;

/* PRODUCER and NAME outlive the reporter. CHECKPOINT_WAIT_MS: how long a copy waits for an acknowledgement before it
 * goes on without (Kafka is away; cells keep in memory and are sent when it is back). */
DroverReporter *drover_reporter_new(DroverProducer *producer, const DroverReporterName *name, int checkpoint_wait_ms);
/* All task reports must be closed. NULL is allowed. */
void drover_reporter_free(DroverReporter *reporter);

/* TASK outlives the report. CANCEL ends every wait. */
DroverTaskReport *drover_task_report_open(DroverReporter *reporter, const DroverTask *task, GCancellable *cancel);
/* No wait: late acknowledgements are ignored. NULL is allowed. */
void drover_task_report_close(DroverTaskReport *report);

/* One checkpoint with CELLS, which are copied. Waits for its acknowledgement, up to the reporter's time. */
bool drover_task_report_cells(DroverTaskReport *report, const DroverCopyCell *cells, size_t n, GError **error);

/* Latest figures from the engine; never blocks for long. Any thread. */
void drover_task_report_progress(DroverTaskReport *report, const DroverCopyProgress *progress);

/*
 * Waits until every checkpoint is acknowledged and the last progress is on its way; up to TIMEOUT_MS (0: without limit)
 * or cancellation. False: something is not acknowledged.
 */
bool drover_task_report_drain(DroverTaskReport *report, int timeout_ms);

/* Acknowledged so far, cells of earlier attempts included; checkpoints of this attempt. */
DroverByteCounts drover_task_report_counts(DroverTaskReport *report, uint64_t *checkpoints);

#endif
