/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a Kafka record to the script that folds it and the script's arguments. The only place of this process where
 * messages are unpacked. Pure: no clock, no I/O.
 */
#ifndef DROVER_PROGRESS_AGGREGATOR_CODEC_H
#define DROVER_PROGRESS_AGGREGATOR_CODEC_H

#include <glib.h>
#include <stdbool.h>

#include "lib/kafka/kafka.h"

/* Which script; the order of drover_fold_scripts. */
typedef enum {
    DROVER_FOLD_SKIP, /* nothing to apply, the offset moves on */
    DROVER_FOLD_JOB,
    DROVER_FOLD_DISK,
    DROVER_FOLD_TASK,
    DROVER_FOLD_PROGRESS,
    DROVER_FOLD_CHECKPOINT,
    DROVER_FOLD_LOG,
    DROVER_FOLD_FORGET,
    DROVER_FOLD_FLEET,
    DROVER_FOLD_TICK,
    DROVER_FOLD_KINDS,
} DroverFoldKind;

/* Larger counts cannot be meant: they would no longer be exact in Lua, whose numbers are doubles. 8 PiB. */
#define DROVER_FOLD_MAX_BYTES (UINT64_C(1) << 53)

/*
 * ARGS (elements are freed with g_free) gets the script's own arguments appended, as described at the head of the script.
 * PERMANENT when RECORD cannot be decoded or says something impossible: then it belongs on drover.dlq.
 */
bool drover_codec_decode(const DroverRecord *record, DroverFoldKind *kind, GPtrArray *args, GError **error);

#endif
