/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop: polls all connections of both sides, runs timers, tells progress, and finds the end. */
#include "worker/copy/engine.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define TICK_US INT64_C(500000)
#define STOP_US INT64_C(2000000)
#define MAX_START_CONNECTIONS 4
#define MAX_CONNECTIONS 16
#define REQUESTS_A_CONNECTION 16
#define LONG_PATH_US 5000
#define GROWTH_US INT64_C(100000)
#define WINDOW_START (UINT64_C(4) << 20)
#define REQUEST_LEAST (UINT64_C(64) << 10)
#define WINDOW_FLOOR (UINT64_C(1) << 20)

void engine_fail(DroverCopy *copy, DroverErrorClass error_class, const DroverRange *region,
                 const char *format, ...)
{
    if (copy->error != NULL)
        return;
    va_list args;
    va_start(args, format);
    copy->error = g_error_new_valist(DROVER_ERROR, (gint)error_class, format, args);
    va_end(args);
    if (region != NULL)
        copy->failed_range = *region;
}

static void log_line(void *data, DroverLogLevel level, const char *event, const char *message)
{
    DroverCopy *copy = data;
    if (copy->params.callbacks.on_log != NULL)
        copy->params.callbacks.on_log(copy->params.callbacks.data, level, event, message);
    else
        DROVER_LOG(level, event, message);
}

void engine_log(DroverCopy *copy, DroverLogLevel level, const char *event, const char *format, ...)
{
    if (copy->params.callbacks.on_log == NULL && !drover_log_enabled(level))
        return;
    va_list args;
    va_start(args, format);
    g_autofree char *message = g_strdup_vprintf(format, args);
    va_end(args);
    log_line(copy, level, event, message);
}

void engine_wake(DroverCopy *copy)
{
    uint64_t one = 1;
    ssize_t n;
    do
        n = write(copy->wake_fd, &one, sizeof one);
    while (n == -1 && errno == EINTR);
}

static bool is_fenced(void *data)
{
    DroverCopy *copy = data;
    const DroverCopyCallbacks *callbacks = &copy->params.callbacks;
    return callbacks->is_fenced != NULL && callbacks->is_fenced(callbacks->data);
}

/* More than there are processors to work for them only make everybody wake more often. */
static unsigned start_connections(void)
{
    return CLAMP(g_get_num_processors(), 2, MAX_START_CONNECTIONS);
}

static DroverSide *make_side(DroverCopy *copy, bool source, int64_t now_us)
{
    const DroverCopyParams *params = &copy->params;
    DroverSideConfig config = {
        .name = source ? "source" : "target",
        .endpoint = g_steal_pointer(&copy->endpoints[source ? 0 : 1]),
        .want_extents = source && !params->no_extents,
        .connections = params->connections != 0 ? params->connections : start_connections(),
        .max_connections = params->connections != 0 ? params->connections : MAX_CONNECTIONS,
        .connect_deadline_us = (int64_t)params->connect_deadline_ms * 1000,
        .reconnect_deadline_us = (int64_t)params->reconnect_deadline_ms * 1000,
        .stall_deadline_us = (int64_t)params->stall_deadline_ms * 1000,
        .flush_deadline_us = (int64_t)params->flush_deadline_ms * 1000,
        .is_fenced = is_fenced,
        .log = log_line,
        .data = copy,
    };
    return drover_side_new(&config, now_us);
}

static uint64_t request_limit(const DroverCopy *copy, const DroverExportInfo *info)
{
    uint64_t max = copy->params.request_bytes;
    if (info->max_block == 0 || info->max_block >= max)
        return max;
    /* Down to a multiple of both sides' blocks, so that no part of a split request is refused. */
    return MAX(info->max_block / copy->block_align * copy->block_align, copy->block_align);
}

/* No smaller than what both servers like best, and digests are made of. */
static uint64_t request_least(const DroverCopy *copy)
{
    uint64_t least = REQUEST_LEAST;
    const DroverExportInfo *ends[] = {drover_side_info(copy->source), drover_side_info(copy->target)};
    for (size_t i = 0; i < G_N_ELEMENTS(ends); i++)
        least = MAX(least, ends[i]->preferred_block);
    least = MAX(least, copy->block_align);
    return MIN(least, copy->params.request_bytes);
}

static bool start(DroverCopy *copy, int64_t now_us, GError **error)
{
    if (drover_side_info(copy->source) == NULL || drover_side_info(copy->target) == NULL)
        return true;
    copy->result->source_size = drover_side_info(copy->source)->size;
    copy->result->target_size = drover_side_info(copy->target)->size;
    if (!engine_plan(copy, error))
        return false;
    copy->read_max = request_limit(copy, drover_side_info(copy->source));
    copy->write_max = request_limit(copy, drover_side_info(copy->target));
    copy->request_least = request_least(copy);
    drover_side_take_loss(copy->target);
    engine_commit_start(copy);
    copy->began_us = copy->last_write_us = now_us;
    copy->next_progress_us = now_us + (int64_t)copy->params.progress_interval_ms * 1000;
    copy->started = true;
    return true;
}

static void take_answers(DroverCopy *copy, int64_t now_us)
{
    for (DroverOp *op; copy->error == NULL && (op = drover_side_take(copy->target)) != NULL;)
        if (op->kind == DROVER_OP_FLUSH)
            engine_flush_done(copy, op, now_us);
        else
            engine_write_done(copy, op, now_us);
    for (DroverOp *op; copy->error == NULL && (op = drover_side_take(copy->source)) != NULL;)
        if (op->kind == DROVER_OP_EXTENTS)
            engine_extents_answer(copy, op, now_us);
        else
            engine_read_done(copy, op, now_us);
}

/*
 * Servers work on so many requests of one connection at a time and no more (nbdkit: 16), so a long path whose
 * window asks for more needs more connections. On a short one they would only cost system calls.
 */
static void grow_connections(DroverCopy *copy)
{
    const struct {
        DroverSide *side;
        const DroverWindow *window;
        const DroverLatency *latency;
        uint64_t largest; /* request */
    } ends[] = {{copy->source, &copy->read_window, &copy->read_latency, copy->read_max},
                {copy->target, &copy->write_window, &copy->write_latency, copy->write_max}};
    for (size_t i = 0; i < G_N_ELEMENTS(ends); i++) {
        uint64_t requests = ends[i].window->bytes / ends[i].largest;
        /* Small areas make many requests of few bytes. At the target zeroes wait, too, and they need no connections. */
        if (ends[i].side == copy->source)
            requests = MAX(requests, drover_side_in_flight(copy->source) + drover_side_queued(copy->source));
        if (drover_latency_percentile(ends[i].latency, 5) >= LONG_PATH_US)
            drover_side_grow(ends[i].side, (requests + REQUESTS_A_CONNECTION - 1) / REQUESTS_A_CONNECTION);
    }
}

static DroverStallCause stall_cause(const DroverCopy *copy, int64_t now_us)
{
    if (!drover_side_is_up(copy->source) || !drover_side_is_up(copy->target))
        return DROVER_STALL_RECONNECT;
    if (copy->throttled_since_us != 0 && drover_side_in_flight(copy->target) == 0)
        return DROVER_STALL_THROTTLE;
    if (now_us - copy->last_write_us < 2 * TICK_US)
        return DROVER_STALL_NONE;
    return drover_side_in_flight(copy->target) + drover_side_queued(copy->target) > 0 ? DROVER_STALL_TARGET
                                                                                      : DROVER_STALL_SOURCE;
}

static void tell_progress(DroverCopy *copy, int64_t now_us)
{
    copy->next_progress_us = now_us + (int64_t)copy->params.progress_interval_ms * 1000;
    const unsigned n = G_N_ELEMENTS(copy->history);
    unsigned slot = copy->n_history % n;
    int64_t since = copy->n_history >= n ? copy->history[slot].at_us : copy->began_us;
    uint64_t before = copy->n_history >= n ? copy->history[slot].bytes : 0;
    copy->history[slot].at_us = now_us;
    copy->history[slot].bytes = copy->written_bytes;
    copy->n_history++;
    if (copy->params.callbacks.on_progress == NULL)
        return;
    DroverCopyProgress progress = {
        .counts = copy->counts,
        .total_bytes = copy->total_bytes,
        .rate_bytes_per_second =
            (uint64_t)((double)(copy->written_bytes - before) * 1e6 / (double)MAX(now_us - since, 1)),
        .read_window_bytes = copy->read_window.bytes,
        .stall_cause = stall_cause(copy, now_us),
        .reconnects = drover_side_reconnects(copy->source) + drover_side_reconnects(copy->target),
    };
    for (const GList *link = copy->active.head; link != NULL; link = link->next)
        progress.in_flight_bytes += ((const Cell *)link->data)->sent;
    for (const GList *link = copy->active.head; link != NULL; link = link->next)
        progress.pending_bytes +=
            ((const Cell *)link->data)->total_bytes - ((const Cell *)link->data)->remaining;
    copy->params.callbacks.on_progress(copy->params.callbacks.data, &progress);
}

/* Stopping is over when what was sent is reported, or when it no longer can be. A slow source is not waited
 * for. */
static bool is_stopped(DroverCopy *copy, int64_t now_us)
{
    if (!atomic_load(&copy->stop))
        return false;
    if (copy->stopping_since_us == 0)
        copy->stopping_since_us = now_us;
    if (!copy->started || !drover_side_is_up(copy->target))
        return true;
    bool read = drover_side_in_flight(copy->source) + drover_side_queued(copy->source) == 0;
    bool written = drover_side_in_flight(copy->target) + drover_side_queued(copy->target) == 0;
    return written && engine_is_settled(copy) && (read || now_us - copy->stopping_since_us > STOP_US);
}

/* One turn. False: the run is over. */
static bool turn(DroverCopy *copy, int64_t now_us)
{
    if (atomic_load(&copy->cancel) || is_stopped(copy, now_us)) {
        copy->result->cancelled = true;
        engine_fail(copy, DROVER_ERROR_RETRYABLE, NULL,
                    "DRV-COPY-STOPPED: the copy was stopped before its end");
        return false;
    }
    if (!drover_side_tick(copy->source, now_us, &copy->error) ||
        !drover_side_tick(copy->target, now_us, &copy->error) ||
        (!copy->started && !start(copy, now_us, &copy->error)))
        return false;
    if (copy->started) {
        if (drover_side_take_loss(copy->target))
            engine_void_target(copy, now_us);
        take_answers(copy, now_us);
        engine_take_reports(copy);
        engine_extents_ask(copy, now_us);
        engine_issue(copy, now_us);
        engine_flush_if_due(copy, now_us);
        engine_report(copy);
        if (copy->error == NULL && copy->exhausted && copy->active.length == 0)
            return false;
        if (now_us >= copy->next_growth_us) {
            grow_connections(copy);
            copy->next_growth_us = now_us + GROWTH_US;
        }
        if (now_us >= copy->next_progress_us)
            tell_progress(copy, now_us);
    }
    drover_side_pump(copy->source, now_us);
    drover_side_pump(copy->target, now_us);
    return copy->error == NULL;
}

static int timeout_ms(DroverCopy *copy, int64_t now_us)
{
    int64_t wait = TICK_US;
    wait = MIN(wait, drover_side_wait_us(copy->source, now_us));
    wait = MIN(wait, drover_side_wait_us(copy->target, now_us));
    if (copy->started) {
        wait = MIN(wait, engine_flush_wait_us(copy, now_us));
        wait = MIN(wait, MAX(copy->next_progress_us - now_us, 0));
        if (copy->throttle_wait_us > 0)
            wait = MIN(wait, copy->throttle_wait_us);
    }
    return (int)((wait + 999) / 1000);
}

static void poll_once(DroverCopy *copy, struct pollfd *fds)
{
    size_t n_source = drover_side_fill_fds(copy->source, fds + 1);
    size_t n_target = drover_side_fill_fds(copy->target, fds + 1 + n_source);
    fds[0] = (struct pollfd){.fd = copy->wake_fd, .events = POLLIN};
    int64_t now_us = g_get_monotonic_time();
    int n = poll(fds, (nfds_t)(1 + n_source + n_target), timeout_ms(copy, now_us));
    if (n <= 0)
        return;
    if (fds[0].revents != 0) {
        uint64_t value;
        ssize_t got = read(copy->wake_fd, &value, sizeof value);
        (void)got; /* it is only a bell */
    }
    now_us = g_get_monotonic_time();
    drover_side_handle_fds(copy->source, fds + 1, n_source, now_us);
    drover_side_handle_fds(copy->target, fds + 1 + n_source, n_target, now_us);
}

static void fill_result(DroverCopy *copy, int64_t now_us)
{
    static const unsigned percents[3] = {50, 95, 99};
    DroverCopyResult *result = copy->result;
    result->counts = copy->counts;
    result->complete = copy->error == NULL;
    result->extents_available = copy->use_extents && !copy->extents_failed;
    result->failed_range = copy->failed_range;
    result->data_bytes_sent = copy->written_bytes;
    result->connections_source = drover_side_open_connections(copy->source);
    result->connections_target = drover_side_open_connections(copy->target);
    result->reconnects = drover_side_reconnects(copy->source) + drover_side_reconnects(copy->target);
    drover_side_tls(copy->source, &result->tls_source);
    drover_side_tls(copy->target, &result->tls_target);
    result->read_window_bytes[0] = copy->read_window.largest;
    result->read_window_bytes[1] = copy->read_window.bytes;
    result->write_window_bytes[0] = copy->write_window.largest;
    result->write_window_bytes[1] = copy->write_window.bytes;
    if (copy->throttled_since_us != 0)
        result->throttled_us += (uint64_t)(now_us - copy->throttled_since_us);
    for (unsigned i = 0; i < 3; i++) {
        result->read_latency_us[i] = drover_latency_percentile(&copy->read_latency, percents[i]);
        result->write_latency_us[i] = drover_latency_percentile(&copy->write_latency, percents[i]);
    }
}

bool engine_run(DroverCopy *copy, GError **error)
{
    int64_t start_us = g_get_monotonic_time();
    copy->source = make_side(copy, true, start_us);
    copy->target = make_side(copy, false, start_us);
    drover_window_init(&copy->read_window, WINDOW_START, WINDOW_FLOOR, copy->params.memory_bytes, start_us);
    drover_window_init(&copy->write_window, WINDOW_START, WINDOW_FLOOR, copy->params.memory_bytes, start_us);
    g_autofree struct pollfd *fds =
        g_new(struct pollfd, 1 + drover_side_max_fds(copy->source) + drover_side_max_fds(copy->target));
    while (turn(copy, g_get_monotonic_time()))
        poll_once(copy, fds);

    int64_t now_us = g_get_monotonic_time();
    engine_commit_stop(copy);
    if (copy->error != NULL && copy->error->code != DROVER_ERROR_FENCED && is_fenced(copy)) {
        g_clear_error(&copy->error);
        drover_fail(&copy->error, DROVER_ERROR_FENCED, "DRV-FENCED: somebody newer owns %s",
                    drover_side_label(copy->target));
    }
    if (copy->started)
        tell_progress(copy, now_us);
    fill_result(copy, now_us);
    copy->result->duration_us = (uint64_t)(now_us - start_us);
    if (copy->error == NULL) {
        drover_side_disconnect(copy->source);
        drover_side_disconnect(copy->target);
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&copy->error));
    return false;
}
