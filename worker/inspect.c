/* SPDX-License-Identifier: Apache-2.0 */
/* Inspect tasks: is the source there, whole and quiet, how large is it, and where does it hold data. */
#include <inttypes.h>

#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "lib/base/log.h"
#include "worker/copy/copy.h"
#include "worker/handlers.h"
#include "worker/source/areas.h"

#define MAX_BUCKETS 4096u

/* Formats without extents: every byte counts as data. */
static void scan_as_full(uint64_t capacity, DroverCopyScan *scan)
{
    uint64_t cells = (capacity + DROVER_CELL_BYTES - 1) / DROVER_CELL_BYTES;
    uint64_t cells_a_bucket = (cells + MAX_BUCKETS - 1) / MAX_BUCKETS;
    scan->size_bytes = scan->allocated_bytes = capacity;
    scan->bucket_bytes = MAX(cells_a_bucket, 1) * DROVER_CELL_BYTES;
    scan->n_buckets = (size_t)((capacity + scan->bucket_bytes - 1) / scan->bucket_bytes);
    scan->bucket_allocated_bytes = g_new0(uint64_t, scan->n_buckets + 1);
    for (size_t i = 0; i < scan->n_buckets; i++)
        scan->bucket_allocated_bytes[i] = MIN(scan->bucket_bytes, capacity - i * scan->bucket_bytes);
}

static bool scan_source(const DroverSource *source, GCancellable *cancel, DroverCopyScan *scan, GError **error)
{
    if (!source->endpoint.extents) {
        scan_as_full(source->capacity_bytes, scan);
        return true;
    }
    DroverCopyEndpoint endpoint = {.uri = source->endpoint.uri, .socket_path = source->endpoint.socket_path};
    return drover_copy_scan(&endpoint, 0, cancel, scan, error);
}

/* What a later round asks for. True with AREAS NULL when the source cannot tell and *WHY says so. */
static bool find_areas(const DroverTask *task, DroverSource *source, GArray **areas, char **why, GError **error)
{
    if (!task->changed_areas)
        return true;
    g_autoptr(GError) failure = NULL;
    g_autoptr(GArray) found = g_array_new(false, false, sizeof(DroverRange));
    if (drover_source_changed_areas(source, task->since_change_id, found, &failure)) {
        unsigned joined = drover_areas_limit(found, DROVER_AREAS_MAX);
        if (joined > 0)
            drover_warning("source.areas-joined", "Too many changed areas for one message: the nearest were joined",
                           F_S("job_id", task->job_id), F_S("disk_id", task->disk_id), F_U("joined", joined));
        *areas = g_steal_pointer(&found);
        return true;
    }
    if (drover_error_class(failure) != DROVER_ERROR_PERMANENT) {
        g_propagate_error(error, g_steal_pointer(&failure));
        return false;
    }
    g_autofree char *redacted = drover_redact(failure->message);
    *why = g_utf8_make_valid(redacted, -1);
    return true;
}

/* The source's own account is the better total where reading would have to look for zeroes (thick disks). Nothing
 * depends on it but what is shown and how ranges are cut: without it, the scan's sum stands. */
static void take_used_bytes(const DroverTask *task, DroverSource *source, DroverCopyScan *scan)
{
    if (task->changed_areas || source->kind->used_bytes == NULL)
        return;
    uint64_t used = 0;
    g_autoptr(GError) failure = NULL;
    if (drover_source_used_bytes(source, &used, &failure))
        scan->allocated_bytes = MIN(scan->allocated_bytes, used);
    else
        drover_warning("source.used-unknown", failure->message, F_S("job_id", task->job_id),
                       F_S("disk_id", task->disk_id));
}

static void publish_result(DroverWorker *worker, DroverRunning *running, const DroverSource *source,
                           const DroverCopyScan *scan, const GArray *areas, const char *why)
{
    const DroverTask *task = drover_running_task(running);
    DroverInspected inspected = {
        .identity = &source->identity,
        .format = source->format,
        .capacity_bytes = source->capacity_bytes,
        .allocated_bytes = scan->allocated_bytes,
        .extents_available = source->endpoint.extents && scan->extents_available,
        .bucket_bytes = scan->bucket_bytes,
        .bucket_allocated_bytes = scan->bucket_allocated_bytes,
        .n_buckets = scan->n_buckets,
        .frozen = source->frozen,
        .areas_known = areas != NULL,
        .areas = areas,
        .areas_unknown_because = why,
    };
    drover_info("source.inspected", "The source is whole", F_S("job_id", task->job_id), F_S("disk_id", task->disk_id),
                F_S("format", source->format), F_U("capacity_bytes", source->capacity_bytes),
                F_U("allocated_bytes", scan->allocated_bytes));
    g_autoptr(GBytes) event = drover_codec_inspected(&worker->name, task, &inspected);
    drover_handler_publish(worker, running, event);
}

void drover_handle_inspect(DroverWorker *worker, DroverRunning *running)
{
    const DroverTask *task = drover_running_task(running);
    DroverSourceContext context = drover_handler_source_context(worker, running);
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverSource) source = drover_source_open(&task->source, &context, &error);
    DroverCopyScan scan = {0};
    g_autoptr(GArray) areas = NULL;
    g_autofree char *why = NULL;
    /* Asked again at the end: what was looked at all the time must still be what was opened. */
    if (source != NULL && drover_source_inspect(source, &error) && drover_source_serve(source, &error) &&
        scan_source(source, context.cancel, &scan, &error) && find_areas(task, source, &areas, &why, &error) &&
        drover_source_verify(source, &source->identity, &error)) {
        take_used_bytes(task, source, &scan);
        publish_result(worker, running, source, &scan, areas, why);
    } else {
        drover_handler_unfinished(worker, running, error, NULL);
    }
    drover_copy_scan_clear(&scan);
}
