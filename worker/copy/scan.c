/* SPDX-License-Identifier: Apache-2.0 */
/* What an export looks like: size, abilities, allocation. Asks up to eight regions at a time. */
#include <errno.h>
#include <string.h>

#include "worker/copy/allocation.h"
#include "worker/copy/side.h"

#define REGION_BYTES (UINT64_C(1) << 30)
#define REGIONS_AHEAD 8
#define MAX_BUCKETS 4096
#define SECOND_US INT64_C(1000000)

typedef struct {
    DroverSide *side;
    DroverCopyScan *scan;
    uint64_t asked_to;
    GPtrArray *open; /* of DroverAllocation: regions not finished */
    bool failed;     /* an answer was an error: no use to ask on */
    bool probe;      /* nothing is asked */
} Scan;

static uint64_t cells_up(uint64_t bytes)
{
    return (bytes + DROVER_CELL_BYTES - 1) / DROVER_CELL_BYTES * DROVER_CELL_BYTES;
}

static void describe(DroverCopyScan *scan, const DroverExportInfo *info, uint64_t bucket_bytes)
{
    *scan = (DroverCopyScan){
        .size_bytes = info->size,
        .extents_available = info->has_extents,
        .read_only = info->read_only,
        .can_multi_conn = info->can_multi_conn,
        .min_block = info->min_block,
        .preferred_block = info->preferred_block,
        .max_block = info->max_block,
    };
    uint64_t least = cells_up(MAX((info->size + MAX_BUCKETS - 1) / MAX_BUCKETS, 1));
    scan->bucket_bytes = MAX(cells_up(bucket_bytes), least);
    scan->n_buckets = (size_t)((info->size + scan->bucket_bytes - 1) / scan->bucket_bytes);
    scan->bucket_allocated_bytes = g_new0(uint64_t, MAX(scan->n_buckets, 1));
}

static void count_data(DroverCopyScan *scan, uint64_t offset, uint64_t length)
{
    scan->allocated_bytes += length;
    for (uint64_t end = offset + length, next; offset < end; offset = next) {
        uint64_t bucket = offset / scan->bucket_bytes;
        next = MIN((bucket + 1) * scan->bucket_bytes, end);
        scan->bucket_allocated_bytes[bucket] += next - offset;
    }
}

static void count_region(DroverCopyScan *scan, const DroverAllocation *map)
{
    g_autoptr(GArray) segments = g_array_new(FALSE, FALSE, sizeof(DroverSegment));
    DroverRange all = {map->offset, map->end - map->offset};
    drover_allocation_cut(map, &all, segments);
    for (guint i = 0; i < segments->len; i++) {
        const DroverSegment *segment = &g_array_index(segments, DroverSegment, i);
        if (!segment->hole)
            count_data(scan, segment->offset, segment->length);
    }
}

static void ask(Scan *state, DroverAllocation *map, int64_t now_us)
{
    drover_side_submit(state->side,
                       drover_op_new(DROVER_OP_EXTENTS, map->known_to, map->end - map->known_to, NULL, map),
                       0, now_us);
}

static void ask_more(Scan *state, int64_t now_us)
{
    while (state->open->len < REGIONS_AHEAD && state->asked_to < state->scan->size_bytes && !state->failed) {
        uint64_t end = MIN(state->asked_to + REGION_BYTES, state->scan->size_bytes);
        DroverAllocation *map = drover_allocation_new(state->asked_to, end);
        g_ptr_array_add(state->open, map);
        ask(state, map, now_us);
        state->asked_to = end;
    }
}

static void take_answers(Scan *state, int64_t now_us)
{
    for (DroverOp *op; (op = drover_side_take(state->side)) != NULL; drover_op_free(op)) {
        DroverAllocation *map = op->owner;
        if (op->lost) {
            ask(state, map, now_us);
            continue;
        }
        if (op->error != 0) {
            state->failed = true;
        } else {
            for (guint i = 0; i < op->runs->len; i++) {
                const DroverRun *run = &g_array_index(op->runs, DroverRun, i);
                drover_allocation_append(map, run->length, run->hole);
            }
            if (!drover_allocation_is_complete(map) && !state->failed) {
                ask(state, map, now_us);
                continue;
            }
            if (!state->failed)
                count_region(state->scan, map);
        }
        g_ptr_array_remove_fast(state->open, map);
    }
}

static void log_line(void *data, DroverLogLevel level, const char *event, const char *message)
{
    (void)data;
    DROVER_LOG(level, event, message);
}

static bool is_cancelled(GCancellable *cancellable, GError **error)
{
    if (!g_cancellable_is_cancelled(cancellable))
        return false;
    drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-COPY-STOPPED: the look at the source was stopped");
    return true;
}

static bool scan_all(Scan *state, uint64_t bucket_bytes, GCancellable *cancellable, GError **error)
{
    GPollFD cancel_fd = {.fd = -1};
    bool has_fd = cancellable != NULL && g_cancellable_make_pollfd(cancellable, &cancel_fd);
    bool described = false, ok = false;
    while (!is_cancelled(cancellable, error)) {
        int64_t now_us = g_get_monotonic_time();
        if (!drover_side_tick(state->side, now_us, error))
            break;
        if (!described && drover_side_info(state->side) != NULL) {
            describe(state->scan, drover_side_info(state->side), bucket_bytes);
            state->failed = !state->scan->extents_available || state->probe;
            described = true;
        }
        if (described) {
            take_answers(state, now_us);
            ask_more(state, now_us);
            if (state->open->len == 0) {
                ok = true;
                break;
            }
        }
        drover_side_pump(state->side, now_us);
        struct pollfd fds[2] = {{.fd = cancel_fd.fd, .events = POLLIN}};
        size_t n = drover_side_fill_fds(state->side, fds + 1);
        int64_t wait_us = MIN(drover_side_wait_us(state->side, now_us), SECOND_US / 2);
        if (poll(fds, (nfds_t)(1 + n), (int)((wait_us + 999) / 1000)) > 0)
            drover_side_handle_fds(state->side, fds + 1, n, g_get_monotonic_time());
    }
    if (has_fd)
        g_cancellable_release_fd(cancellable);
    return ok;
}

static bool scan_export(const DroverCopyEndpoint *endpoint, uint64_t bucket_bytes, bool probe,
                        GCancellable *cancellable, DroverCopyScan *scan, GError **error)
{
    DroverEndpoint *parsed = drover_endpoint_new(endpoint, error);
    if (parsed == NULL)
        return false;
    DroverSideConfig config = {
        .name = "source",
        .endpoint = parsed,
        .want_extents = true,
        .connections = 1,
        .connect_deadline_us = 30 * SECOND_US,
        .reconnect_deadline_us = 60 * SECOND_US,
        .stall_deadline_us = 60 * SECOND_US,
        .flush_deadline_us = 60 * SECOND_US,
        .log = log_line,
    };
    g_autoptr(DroverSide) side = drover_side_new(&config, g_get_monotonic_time());
    DroverCopyScan found = {0};
    g_autoptr(GPtrArray) open = g_ptr_array_new_with_free_func((GDestroyNotify)drover_allocation_free);
    Scan state = {.side = side, .scan = &found, .open = open, .probe = probe};
    bool ok = scan_all(&state, bucket_bytes, cancellable, error);
    if (!ok) {
        drover_copy_scan_clear(&found);
        return false;
    }
    if (probe) {
        drover_copy_scan_clear(&found);
        found.allocated_bytes = found.size_bytes;
    } else if (state.failed) {
        found.extents_available = false;
        memset(found.bucket_allocated_bytes, 0, MAX(found.n_buckets, 1) * sizeof(uint64_t));
        found.allocated_bytes = 0;
        count_data(&found, 0, found.size_bytes);
    }
    drover_side_disconnect(side);
    *scan = found;
    return true;
}

bool drover_copy_scan(const DroverCopyEndpoint *endpoint, uint64_t bucket_bytes, GCancellable *cancellable,
                      DroverCopyScan *scan, GError **error)
{
    return scan_export(endpoint, bucket_bytes, false, cancellable, scan, error);
}

bool drover_copy_probe(const DroverCopyEndpoint *endpoint, GCancellable *cancellable, DroverCopyScan *scan,
                       GError **error)
{
    return scan_export(endpoint, 0, true, cancellable, scan, error);
}

void drover_copy_scan_clear(DroverCopyScan *scan)
{
    g_clear_pointer(&scan->bucket_allocated_bytes, g_free);
    scan->n_buckets = 0;
}
