/* SPDX-License-Identifier: Apache-2.0 */
/* What drover-copy shows: progress while it runs, and the JSON report at the end. */
#ifndef DROVER_WORKER_DROVER_COPY_REPORT_H
#define DROVER_WORKER_DROVER_COPY_REPORT_H

#include "worker/copy/copy.h"

typedef enum { DROVER_SHOW_NOTHING, DROVER_SHOW_BAR, DROVER_SHOW_JSON } DroverShow;

/* One line on standard error: a bar that is drawn over, or a JSON object. ALREADY: bytes done by an earlier
 * run. */
void drover_report_progress(DroverShow show, const DroverCopyProgress *progress, uint64_t already_bytes);
void drover_report_progress_end(DroverShow show);

typedef struct {
    const char *source, *target; /* without secrets */
    DroverDigestAlgorithm digest;
    const DroverCopyResult *result;
    const GError *error;                          /* NULL: none */
    uint64_t cells_before;                        /* done by an earlier run */
    bool verified;                                /* a read-back took place */
    GArray *different;                            /* of DroverRange, what differs */
    char round_digest[2 * DROVER_DIGEST_MAX + 1]; /* over all cell roots in order; "" when there is none */
} DroverReport;

bool drover_report_write(const char *path, const DroverReport *report, GError **error);

#endif
