/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The aggregator's loop: reads its share of the partitions, folds them into Redis, and starts again from the offsets
 * that Redis holds whenever anything about Redis is uncertain. While Redis is away it waits and loses nothing, because
 * the only offsets are those in Redis.
 */
#ifndef DROVER_PROGRESS_AGGREGATOR_AGGREGATOR_H
#define DROVER_PROGRESS_AGGREGATOR_AGGREGATOR_H

#include <glib.h>
#include <stdbool.h>

#include "lib/base/config.h"

/* [aggregator] name, batch, heartbeat-interval. */
extern const DroverOption drover_aggregator_options[];

/* Runs until draining is requested (lib/base/drain.h). False, with ERROR, when it cannot start. */
bool drover_aggregator_run(const DroverConfig *config, GError **error);

#endif
