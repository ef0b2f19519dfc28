/* SPDX-License-Identifier: Apache-2.0 */
/* The Redis view as the CLI reads it: hashes of text, by the field names of docs/redis.md. */
#ifndef DROVER_CLI_VIEW_H
#define DROVER_CLI_VIEW_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/redis/redis.h"

typedef struct {
    char *job_id;
    GHashTable *fields; /* of drover:job:<job_id> */
    GPtrArray *disks;   /* GHashTable each, in the job's order; fields of drover:disk:<job_id>:<disk_id> */
    GHashTable *failover; /* of drover:failover:<job_id>; empty without one */
} DroverJobView;

void drover_job_view_free(DroverJobView *view);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverJobView, drover_job_view_free)

/* *VIEW is NULL when the view has no such job (yet). False: Redis cannot be asked. */
bool drover_view_job(DroverRedis *redis, const char *job_id, DroverJobView **view, GError **error);

/* Ids of jobs, the last updated first, at most LIMIT (0: all). STATUS NULL: of any status. */
GPtrArray *drover_view_jobs(DroverRedis *redis, const char *status, int64_t limit, GError **error);

/* Text and numbers of a hash; "" and 0 for what is missing. */
const char *drover_view_text(GHashTable *fields, const char *name);
uint64_t drover_view_number(GHashTable *fields, const char *name);

/* completed, failed, cancelled or rolled-back. */
bool drover_view_ended(const DroverJobView *view);
bool drover_view_succeeded(const DroverJobView *view);

/* The whole view of one job as JSON: numbers as numbers, flags as booleans. The caller's reference. */
json_t *drover_view_json(const DroverJobView *view);

#endif
