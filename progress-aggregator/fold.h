/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Folds Kafka records into Redis. One Lua call per record checks the record's offset against the hash <prefix>offsets,
 * applies it and moves the offset, all or nothing; so a record counts once, however often and by however many
 * aggregators it is read.
 *
 * Redis may lose what it held (FLUSHALL, a restart, a failover to a replica that lagged). It shows in two ways: the
 * field `epoch` of the offsets hash is another one or gone, or an offset is lower than what was folded here. Either
 * makes a call return LOST without an effect; then drover_fold_open and the offsets it finds are where to read on.
 *
 * One thread. Blocks as lib/redis/redis.h says.
 */
#ifndef DROVER_PROGRESS_AGGREGATOR_FOLD_H
#define DROVER_PROGRESS_AGGREGATOR_FOLD_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/kafka/kafka.h"
#include "lib/redis/redis.h"
#include "progress-aggregator/codec.h"

/* Lua source by DroverFoldKind. */
extern const char *const drover_fold_scripts[];

typedef struct DroverFold DroverFold;

/* REDIS must outlive the result. */
DroverFold *drover_fold_new(DroverRedis *redis);
void drover_fold_free(DroverFold *fold);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverFold, drover_fold_free)

/* Connects, loads the scripts, reads the epoch (makes one in an empty Redis) and forgets all offsets. */
bool drover_fold_open(DroverFold *fold, GError **error);

/* Reads from Redis where TOPIC/PARTITION goes on (0: from its beginning) and holds the fold to it from now on. */
bool drover_fold_next_offset(DroverFold *fold, const char *topic, int32_t partition, int64_t *next, GError **error);

typedef enum {
    DROVER_FOLD_DONE,
    DROVER_FOLD_LOST,   /* see above; or a record was refused by its script: open again, seek, go on */
    DROVER_FOLD_FAILED, /* ERROR is set; how much was applied is unknown: open again when Redis is back, seek, go on */
} DroverFoldResult;

/* Called for each record that cannot be applied, before its offset moves on. False: it could not be kept safe. */
typedef bool (*DroverPoisonFunc)(const DroverRecord *record, const char *reason, void *user_data, GError **error);

/* Applies RECORDS (DroverRecord) in order; those of one partition must be in the order of their offsets. */
DroverFoldResult drover_fold_apply(DroverFold *fold, GPtrArray *records, DroverPoisonFunc poison, void *user_data,
                                   GError **error);

/* Looks whether Redis still holds what was folded here, when no record comes that would tell. */
DroverFoldResult drover_fold_check(DroverFold *fold, GError **error);

/* What time alone changes: speeds that are stale, processes that fell silent. */
bool drover_fold_tick(DroverFold *fold, GError **error);

#endif
