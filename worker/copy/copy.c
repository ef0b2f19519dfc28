/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/copy/engine.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)

static void set_defaults(DroverCopyParams *params)
{
    if (params->digest == 0)
        params->digest = DROVER_DIGEST_NONE;
    if (params->memory_bytes == 0)
        params->memory_bytes = 64 * MIB;
    params->memory_bytes = MAX(params->memory_bytes, MIB);
    params->unflushed_bytes = MAX(params->unflushed_bytes, 64 * MIB);
    if (params->request_bytes == 0)
        params->request_bytes = 512 * 1024;
    params->request_bytes =
        CLAMP(params->request_bytes, DROVER_LEAF_BYTES, MIN(2 * MIB, params->memory_bytes));
    params->request_bytes = params->request_bytes / DROVER_LEAF_BYTES * DROVER_LEAF_BYTES;
    const struct {
        uint32_t *value, fallback;
    } times[] = {
        {&params->connect_deadline_ms, 30000}, {&params->reconnect_deadline_ms, 600000},
        {&params->stall_deadline_ms, 60000},   {&params->flush_deadline_ms, 300000},
        {&params->flush_interval_ms, 1000},    {&params->progress_interval_ms, 500},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(times); i++)
        if (*times[i].value == 0)
            *times[i].value = times[i].fallback;
}

static bool take_areas(DroverCopy *copy, const DroverCopyParams *params, GError **error)
{
    if (params->n_areas == 0)
        return true;
    copy->areas = drover_rangeset_new();
    for (size_t i = 0; i < params->n_areas; i++)
        if (params->areas[i].length == 0 ||
            !drover_rangeset_add(copy->areas, params->areas[i].offset, params->areas[i].length))
            return drover_fail(error, DROVER_ERROR_PERMANENT, "Area %zu is empty or lies beyond every disk",
                               i);
    return true;
}

DroverCopy *drover_copy_new(const DroverCopyParams *params, GError **error)
{
    g_autoptr(DroverCopy) copy = g_new0(DroverCopy, 1);
    copy->wake_fd = -1;
    copy->params = *params;
    set_defaults(&copy->params);
    drover_throttle_init(&copy->throttle,
                         params->rate_bytes_per_second != 0 ? params->rate_bytes_per_second
                                                            : DROVER_RATE_UNLIMITED,
                         g_get_monotonic_time());
    copy->done_cells = g_byte_array_new();
    if (params->done_cells_len > 0)
        g_byte_array_append(copy->done_cells, params->done_cells, (guint)params->done_cells_len);
    if (params->offset % DROVER_CELL_BYTES != 0) {
        drover_fail(error, DROVER_ERROR_PERMANENT,
                    "The range begins at %" G_GUINT64_FORMAT ", which is no cell's beginning",
                    params->offset);
        return NULL;
    }
    if (copy->params.digest > DROVER_DIGEST_SHA256) {
        drover_fail(error, DROVER_ERROR_PERMANENT, "Digest %d is not known", (int)params->digest);
        return NULL;
    }
    if (!take_areas(copy, params, error) ||
        (copy->endpoints[0] = drover_endpoint_new(&params->source, error)) == NULL ||
        (copy->endpoints[1] = drover_endpoint_new(&params->target, error)) == NULL)
        return NULL;
    copy->pool = drover_pool_new((size_t)copy->params.request_bytes, copy->params.memory_bytes);
    copy->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (copy->pool == NULL || copy->wake_fd == -1) {
        drover_fail(error, DROVER_ERROR_RETRYABLE,
                    "The system gives no memory or file descriptor for a copy: %s", g_strerror(errno));
        return NULL;
    }
    copy->zeroes = g_malloc0((gsize)copy->params.request_bytes);
    return g_steal_pointer(&copy);
}

void drover_copy_free(DroverCopy *copy)
{
    if (copy == NULL)
        return;
    engine_commit_stop(copy);
    drover_side_free(copy->source);
    drover_side_free(copy->target);
    engine_blocks_clear(copy);
    for (Cell *cell; (cell = g_queue_pop_head(&copy->active)) != NULL;)
        engine_cell_free(cell);
    engine_extents_clear(copy);
    drover_pool_free(copy->pool);
    drover_endpoint_free(copy->endpoints[0]);
    drover_endpoint_free(copy->endpoints[1]);
    drover_rangeset_free(copy->areas);
    g_byte_array_unref(copy->done_cells);
    drover_throttle_clear(&copy->throttle);
    if (copy->wake_fd != -1)
        close(copy->wake_fd);
    g_clear_error(&copy->error);
    g_free(copy->zeroes);
    g_free(copy);
}

bool drover_copy_run(DroverCopy *copy, DroverCopyResult *result, GError **error)
{
    g_assert(!copy->ran);
    copy->ran = true;
    memset(result, 0, sizeof *result);
    copy->result = result;
    bool ok = engine_run(copy, error);
    /* What was in flight still points to buffers: connections go before anything else. */
    g_clear_pointer(&copy->source, drover_side_free);
    g_clear_pointer(&copy->target, drover_side_free);
    copy->result = NULL;
    return ok;
}

void drover_copy_stop(DroverCopy *copy)
{
    atomic_store(&copy->stop, true);
    engine_wake(copy);
}

void drover_copy_cancel(DroverCopy *copy)
{
    atomic_store(&copy->cancel, true);
    engine_wake(copy);
}

void drover_copy_set_rate(DroverCopy *copy, uint64_t bytes_per_second, uint64_t ttl_ms,
                          uint64_t floor_bytes_per_second)
{
    drover_throttle_set(&copy->throttle, bytes_per_second != 0 ? bytes_per_second : DROVER_RATE_UNLIMITED,
                        (int64_t)MIN(ttl_ms, INT64_MAX / 2000) * 1000, floor_bytes_per_second,
                        g_get_monotonic_time());
    engine_wake(copy);
}
