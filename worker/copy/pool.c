/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/copy/pool.h"

#include <sys/mman.h>

struct DroverPool {
    uint8_t *arena;
    size_t arena_len;
    size_t count;
    size_t n_free;
    void **free; /* a stack; the lowest addresses on top at first */
};

DroverPool *drover_pool_new(size_t size, uint64_t budget)
{
    g_assert(size > 0 && size % 65536 == 0);
    size_t count = (size_t)MAX(budget / size, 1);
    size_t len = count * size;
    void *arena = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena == MAP_FAILED)
        return NULL;
    DroverPool *pool = g_new0(DroverPool, 1);
    pool->arena = arena;
    pool->arena_len = len;
    pool->count = pool->n_free = count;
    pool->free = g_new(void *, count);
    for (size_t i = 0; i < count; i++)
        pool->free[count - 1 - i] = pool->arena + i * size;
    return pool;
}

void drover_pool_free(DroverPool *pool)
{
    if (pool == NULL)
        return;
    munmap(pool->arena, pool->arena_len);
    g_free(pool->free);
    g_free(pool);
}

void *drover_pool_get(DroverPool *pool)
{
    return pool->n_free > 0 ? pool->free[--pool->n_free] : NULL;
}

void drover_pool_put(DroverPool *pool, void *buffer)
{
    if (buffer == NULL)
        return;
    g_assert(pool->n_free < pool->count);
    pool->free[pool->n_free++] = buffer;
}

size_t drover_pool_in_use(const DroverPool *pool)
{
    return pool->count - pool->n_free;
}

size_t drover_pool_count(const DroverPool *pool)
{
    return pool->count;
}
