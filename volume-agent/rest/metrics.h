/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counters and histograms with labels, and their text for Prometheus (exposition format 0.0.4). Any thread.
 * Values that can be asked for at any time (operations, exports, lag) are not kept here: they are written
 * into the text as they are then.
 */
#ifndef DROVER_VOLUME_AGENT_REST_METRICS_H
#define DROVER_VOLUME_AGENT_REST_METRICS_H

#include <glib.h>
#include <stdint.h>

typedef struct DroverRestMetrics DroverRestMetrics;
DroverRestMetrics *drover_rest_metrics_new(void);
void drover_rest_metrics_free(DroverRestMetrics *metrics);

/* LABELS: "a=\"x\",b=\"y\"" as drover_rest_labels makes them; "" for none. The metric must be in the table of
 * metrics.c. */
void drover_rest_metrics_add(DroverRestMetrics *metrics, const char *name, const char *labels, uint64_t n);
/* One observation of a histogram, in seconds. */
void drover_rest_metrics_observe(DroverRestMetrics *metrics, const char *name, const char *labels,
                                 double seconds);

/* Name, value, name, value, …, NULL; values are escaped. Newly allocated. */
char *drover_rest_labels(const char *name, ...) G_GNUC_NULL_TERMINATED;

/* Appends all that was counted. */
void drover_rest_metrics_write(DroverRestMetrics *metrics, GString *out);
/* One family that is not kept: its head, then a sample for each value. */
void drover_rest_metrics_head(GString *out, const char *name, const char *type, const char *help);
void drover_rest_metrics_sample(GString *out, const char *name, const char *labels, double value);

#endif
