/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's section of drover.conf. */
#ifndef DROVER_WORKER_OPTIONS_H
#define DROVER_WORKER_OPTIONS_H

#include "lib/base/config.h"
#include "worker/worker.h"

extern const DroverOption drover_worker_options[];

/* Fills the settings of WORKER, who it is and its topics; CONFIG outlives it. PERMANENT errors name the option. */
bool drover_worker_configure(DroverWorker *worker, const DroverConfig *config, GError **error);
void drover_worker_clear(DroverWorker *worker); /* what configure filled */

#endif
