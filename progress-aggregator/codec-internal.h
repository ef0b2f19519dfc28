/* SPDX-License-Identifier: Apache-2.0 */
/* What the two halves of the codec share: building the arguments of a script. */
#ifndef DROVER_PROGRESS_AGGREGATOR_CODEC_INTERNAL_H
#define DROVER_PROGRESS_AGGREGATOR_CODEC_INTERNAL_H

#include "progress-aggregator/codec.h"

#include <stdint.h>

void drover_args_string(GPtrArray *args, const char *text); /* NULL counts as "" */
void drover_args_unsigned(GPtrArray *args, uint64_t number);
void drover_args_signed(GPtrArray *args, int64_t number);
void drover_args_time(GPtrArray *args, int64_t unix_ms); /* ISO 8601; "" for 0 */

/* Pairs "field, value", whose number comes before them. */
typedef struct {
    GPtrArray *args;
    guint count_at;
    guint first;
} DroverPairs;
DroverPairs drover_pairs_begin(GPtrArray *args);
void drover_pairs_end(DroverPairs *pairs);
#define PAIR_STRING(args, field, value) (drover_args_string(args, field), drover_args_string(args, value))
#define PAIR_UNSIGNED(args, field, value) (drover_args_string(args, field), drover_args_unsigned(args, value))
#define PAIR_TIME(args, field, value) (drover_args_string(args, field), drover_args_time(args, value))

/* Job, disk and task ids become parts of keys; a wrong one is refused. DISK_ID and TASK_ID may be NULL: not looked at. */
bool drover_codec_check_ids(const char *job_id, const char *disk_id, const char *task_id, GError **error);
bool drover_codec_check_bytes(uint64_t bytes, const char *what, GError **error);

/* drover.state. */
bool drover_codec_state(const DroverRecord *record, DroverFoldKind *kind, GPtrArray *args, GError **error);

#endif
