/* SPDX-License-Identifier: Apache-2.0 */
/* What [scheduler] in drover.conf sets. */
#ifndef DROVER_SCHEDULER_OPTIONS_H
#define DROVER_SCHEDULER_OPTIONS_H

#include "core/at.h"
#include "lib/base/config.h"

extern const DroverOption scheduler_options[];

typedef struct {
    char *process_id;
    char *instance_id;
    int64_t started_at_ms;
    const char *const *sites;  /* owned by the configuration */
    const char *const *agents; /* owned by the configuration */
    DroverLimits limits;
    int64_t heartbeat_interval_ms;
    unsigned batch_inputs;
    int64_t batch_time_ms;
    int leader_session_timeout_ms;
    int64_t grant_ttl_ms;
    int64_t retention_ms; /* of ended jobs */
} SchedulerOptions;

/* NULL with a PERMANENT error when a value makes no sense. CONFIG must outlive the result. */
SchedulerOptions *scheduler_options_read(const DroverConfig *config, GError **error);
void scheduler_options_free(SchedulerOptions *options);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SchedulerOptions, scheduler_options_free)

#endif
