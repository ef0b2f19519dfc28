/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffers of one size under a budget. The last one put back is the next one handed out, so a copy that needs
 * few stays in the cache, and memory that was never needed is never touched. Contents are undefined. One
 * thread.
 */
#ifndef DROVER_WORKER_COPY_POOL_H
#define DROVER_WORKER_COPY_POOL_H

#include <glib.h>
#include <stddef.h>
#include <stdint.h>

typedef struct DroverPool DroverPool;

/* BUDGET / SIZE buffers of SIZE bytes (at least one), aligned to pages. NULL when the system gives no address
 * space. */
DroverPool *drover_pool_new(size_t size, uint64_t budget);
void drover_pool_free(DroverPool *pool);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverPool, drover_pool_free)

void *drover_pool_get(DroverPool *pool); /* NULL: all in use */
void drover_pool_put(DroverPool *pool, void *buffer);
size_t drover_pool_in_use(const DroverPool *pool);
size_t drover_pool_count(const DroverPool *pool);

#endif
