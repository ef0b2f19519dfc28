/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When drover.state is read from its beginning, it still holds older records of many keys. Folding those would let
 * finished jobs run again before the reader's eyes. So records are kept back, the newest per key, until the end of the
 * topic is near. What comes too late is folded one by one, which is right, too, only not as pretty.
 *
 * Pure: time is passed in. One thread.
 */
#ifndef DROVER_PROGRESS_AGGREGATOR_CATCH_UP_H
#define DROVER_PROGRESS_AGGREGATOR_CATCH_UP_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/kafka/kafka.h"

typedef struct DroverCatchUp DroverCatchUp;

DroverCatchUp *drover_catch_up_new(void);
void drover_catch_up_free(DroverCatchUp *catch_up);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverCatchUp, drover_catch_up_free)

/* Forgets what was kept back; from now on (Unix time) keeps records back if ACTIVE. */
void drover_catch_up_reset(DroverCatchUp *catch_up, bool active, int64_t now_ms);
bool drover_catch_up_is_active(const DroverCatchUp *catch_up);

/* Keeps RECORD, which becomes the catch-up's, instead of an older one of its key. */
void drover_catch_up_add(DroverCatchUp *catch_up, DroverRecord *record, int64_t now_ms);

/* The end is near: a record is newer than the beginning, or none has come for a while. */
bool drover_catch_up_is_done(const DroverCatchUp *catch_up, int64_t now_ms);

/* Ends it: what was kept back, in the order of offsets. The caller's. */
GPtrArray *drover_catch_up_take(DroverCatchUp *catch_up);

#endif
