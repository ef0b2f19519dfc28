/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/drover-copy/job.h"

#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/drain.h"
#include "worker/drover-copy/cells.h"
#include "worker/drover-copy/ranges.h"
#include "worker/drover-copy/rate_file.h"
#include "worker/drover-copy/serve.h"

#define RATE_LOOK_MS 500

/* One end: a URI as it is, or a file with its server. */
typedef struct {
    DroverServe *serve;
    DroverCopyEndpoint endpoint;
    char *label;    /* for people and reports */
    char *identity; /* for --resume */
} End;

typedef struct {
    DroverJob *job;
    End source, target;
    bool created; /* the target: a new file */
    char *token; /* the part behind the dot */
    DroverCells *cells;
    uint64_t already_bytes;
    DroverRateFile rate_file; /* the watcher's while the copy runs */
    GMutex lock;
    DroverCopy *copy;      /* under the lock: while it runs */
    GCancellable *stopped; /* by a signal */
    GCancellable *ended;   /* the run: its watcher goes */
    GArray *different; /* of DroverRange */
    GArray *areas;     /* of DroverRange; NULL: the whole disk */
} Run;

static void end_clear(End *end)
{
    drover_serve_stop(end->serve);
    g_free(end->label);
    g_free(end->identity);
}

static bool is_uri(const char *text)
{
    return g_str_has_prefix(text, "nbd:") || g_str_has_prefix(text, "nbd+") || g_str_has_prefix(text, "nbds");
}

static bool has_tls(const char *where)
{
    return g_str_has_prefix(where, "nbds:") || g_str_has_prefix(where, "nbds+") || g_str_has_prefix(where, "nbd+tls:");
}

bool drover_job_forgets_tls(const DroverJob *job)
{
    bool configured = *job->tls.ca_file != '\0' || *job->tls.cert_file != '\0' || *job->tls.key_file != '\0' ||
                      *job->tls.name != '\0';
    return configured && !has_tls(job->source) && !has_tls(job->target);
}

static bool open_end(End *end, const char *where, const char *format, bool writable, unsigned connections,
                     GError **error)
{
    end->label = drover_redact(where);
    if (is_uri(where)) {
        end->endpoint.uri = where;
        end->identity = g_strdup(end->label);
        return true;
    }
    end->serve = drover_serve_start(where, format, writable, connections, error);
    if (end->serve == NULL)
        return false;
    end->endpoint.socket_path = drover_serve_socket(end->serve);
    struct stat st;
    g_autofree char *real = realpath(where, NULL);
    if (real == NULL || stat(real, &st) == -1)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "%s went away", where);
    /* A source is the same as long as nobody wrote to it; a target changes while we write. */
    end->identity =
        writable ? g_strdup_printf("file:%s:%llu", real, (unsigned long long)st.st_ino)
                 : g_strdup_printf("file:%s:%llu:%lld:%lld.%09ld", real, (unsigned long long)st.st_ino,
                                   (long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    return true;
}

static bool read_token(Run *run, GError **error)
{
    const char *path = run->job->token_file;
    if (*path == '\0')
        return true;
    g_autofree char *text = NULL;
    g_autoptr(GError) cause = NULL;
    if (!g_file_get_contents(path, &text, NULL, &cause))
        return drover_fail(error, DROVER_ERROR_PERMANENT, "The token file cannot be read: %s",
                           cause->message);
    g_strstrip(text);
    char *dot = strchr(text, '.');
    guint64 generation = 0;
    if (dot != NULL)
        *dot = '\0';
    if (dot == NULL || dot[1] == '\0' ||
        !g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT64, &generation, NULL))
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "The token file %s must hold one line \"<generation>.<token>\"", path);
    run->token = g_strdup(dot + 1);
    run->target.endpoint.generation = generation;
    run->target.endpoint.token = run->token;
    return true;
}

static bool cells_done(void *data, const DroverCopyCell *cells, size_t n, GError **error)
{
    Run *run = data;
    return drover_cells_add(run->cells, cells, n, error);
}

static void progressed(void *data, const DroverCopyProgress *progress)
{
    Run *run = data;
    drover_report_progress(run->job->show, progress, run->already_bytes);
}

/* The copy that runs gets what the file says now. */
static void follow_rate(Run *run)
{
    g_autoptr(GError) error = NULL;
    g_mutex_lock(&run->lock);
    if (run->copy != NULL) {
        DroverRateNews news = drover_rate_file_look(&run->rate_file, &error);
        if (news == DROVER_RATE_CHANGED)
            drover_copy_set_rate(run->copy, run->rate_file.rate, 0, 0);
        if (news == DROVER_RATE_CHANGED)
            drover_info("rate.changed", "The rate file says another rate",
                        F_U("bytes_per_second", run->rate_file.rate));
        else if (news == DROVER_RATE_BAD)
            drover_warning("rate.bad", error->message, F_U("bytes_per_second", run->rate_file.rate));
    }
    g_mutex_unlock(&run->lock);
}

/* Before anything else happens: a limit that cannot be read must not become none. */
static bool open_rate_file(Run *run, GError **error)
{
    DroverJob *job = run->job;
    run->rate_file = (DroverRateFile){.path = job->rate_file, .rate = job->params.rate_bytes_per_second};
    g_autoptr(GError) cause = NULL;
    if (*job->rate_file == '\0')
        return true;
    if (drover_rate_file_look(&run->rate_file, &cause) == DROVER_RATE_BAD) {
        if (!job->rate_given) {
            g_propagate_error(error, g_steal_pointer(&cause));
            return false;
        }
        drover_warning("rate.bad", cause->message, F_U("bytes_per_second", run->rate_file.rate));
    }
    job->params.rate_bytes_per_second = run->rate_file.rate;
    return true;
}

/* The first signal stops what is under way: the copy orderly, everything else at once. */
static gpointer watch_signals(gpointer data)
{
    Run *run = data;
    struct pollfd fds[] = {{.fd = drover_drain_fd(), .events = POLLIN},
                           {.fd = g_cancellable_get_fd(run->ended), .events = POLLIN}};
    bool follow = *run->job->rate_file != '\0';
    while (!g_cancellable_is_cancelled(run->ended) && !drover_drain_requested())
        if (poll(fds, 2, follow ? RATE_LOOK_MS : -1) == 0)
            follow_rate(run);
    g_cancellable_release_fd(run->ended);
    if (drover_drain_requested()) {
        g_cancellable_cancel(run->stopped);
        g_mutex_lock(&run->lock);
        if (run->copy != NULL)
            drover_copy_stop(run->copy);
        g_mutex_unlock(&run->lock);
    }
    return NULL;
}

static void set_copy(Run *run, DroverCopy *running)
{
    g_mutex_lock(&run->lock);
    run->copy = running;
    if (running != NULL && g_cancellable_is_cancelled(run->stopped))
        drover_copy_stop(running);
    g_mutex_unlock(&run->lock);
}

static bool open_ends(Run *run, GError **error)
{
    DroverJob *job = run->job;
    run->source.endpoint.tls = run->target.endpoint.tls = job->tls;
    unsigned connections = MAX(job->params.connections, 16) + 2;
    if (!open_end(&run->source, job->source, job->source_format, false, connections, error))
        return false;
    DroverCopyScan scan = {0};
    bool file_target = !is_uri(job->target);
    if (file_target && strcmp(job->target_format, "raw") == 0) {
        if (!drover_copy_probe(&run->source.endpoint, run->stopped, &scan, error) ||
            !drover_serve_prepare(job->target, scan.size_bytes, &run->created, error))
            return false;
        job->params.target_is_zero = job->params.target_is_zero || (run->created && !job->params.allocated);
    }
    if (file_target) {
        struct stat a, b;
        if (stat(job->source, &a) == 0 && stat(job->target, &b) == 0 && a.st_dev == b.st_dev &&
            a.st_ino == b.st_ino)
            return drover_fail(error, DROVER_ERROR_PERMANENT, "%s and %s are one file", job->source,
                               job->target);
    }
    return open_end(&run->target, job->target, job->target_format, true, connections, error) &&
           read_token(run, error);
}

static bool read_areas(Run *run, GError **error)
{
    DroverJob *job = run->job;
    if (*job->ranges_file == '\0')
        return true;
    run->areas = drover_ranges_read(job->ranges_file, error);
    if (run->areas == NULL)
        return false;
    job->params.areas = (const DroverRange *)run->areas->data;
    job->params.n_areas = run->areas->len;
    return true;
}

/* The areas as the engine will copy them: what a cell of an earlier run consists of depends on the servers' blocks. */
static bool round_areas(Run *run, const DroverCopyScan *source, DroverRangeset *areas, GError **error)
{
    DroverCopyScan target = {0};
    if (!drover_copy_probe(&run->target.endpoint, run->stopped, &target, error))
        return false;
    for (guint i = 0; i < run->areas->len; i++) {
        const DroverRange *area = &g_array_index(run->areas, DroverRange, i);
        if (!drover_rangeset_add(areas, area->offset, area->length))
            return drover_fail(error, DROVER_ERROR_PERMANENT, "A range of %s lies beyond every disk",
                               run->job->ranges_file);
    }
    drover_rangeset_clip(areas, 0, source->size_bytes);
    drover_rangeset_align(areas, MAX(MAX(source->min_block, target.min_block), 1), source->size_bytes);
    return true;
}

static void count_different(void *data, uint64_t cell, DroverRange range)
{
    (void)cell;
    (void)range;
    (*(unsigned *)data)++;
}

/* The first and the last cell of an earlier run that has data must still be at END what they were: a name says little of
 * what an NBD server serves today. */
static bool is_still_there(Run *run, const End *end, uint64_t size, GError **error)
{
    const GArray *all = run->cells->cells;
    DroverCopyCell sample[2];
    size_t n = 0;
    for (guint i = 0; i < all->len && n == 0; i++)
        if (g_array_index(all, DroverCopyCell, i).data_bytes > 0)
            sample[n++] = g_array_index(all, DroverCopyCell, i);
    for (guint i = all->len; i-- > 0 && n == 1;)
        if (g_array_index(all, DroverCopyCell, i).cell == sample[0].cell)
            break;
        else if (g_array_index(all, DroverCopyCell, i).data_bytes > 0)
            sample[n++] = g_array_index(all, DroverCopyCell, i);
    if (n == 2 && sample[0].cell > sample[1].cell) {
        DroverCopyCell later = sample[0];
        sample[0] = sample[1];
        sample[1] = later;
    }
    unsigned differ = 0;
    uint64_t different = 0;
    DroverCopyVerify check = {
        .digest = run->job->params.digest,
        .size_bytes = size,
        .cells = sample,
        .n = n,
        .connect_deadline_ms = run->job->params.connect_deadline_ms,
        .reconnect_deadline_ms = run->job->params.reconnect_deadline_ms,
        .stall_deadline_ms = run->job->params.stall_deadline_ms,
        .data = &differ,
        .on_different = count_different,
    };
    if (n > 0 && !drover_copy_verify(&end->endpoint, &check, run->stopped, &different, error))
        return false;
    return different == 0 ||
           drover_fail(error, DROVER_ERROR_PERMANENT,
                       "DRV-COPY-RESUME: %s does not hold what an earlier run copied and noted in %s; it is another disk, or "
                       "somebody wrote to it. Remove the file to begin anew",
                       end->label, run->cells->path);
}

/* Before anything is left out because of what the file says. */
static bool check_resumed(Run *run, uint64_t size, GError **error)
{
    if (run->cells->cells->len == 0)
        return true;
    if (run->created)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-COPY-RESUME: the target %s did not exist any more, but %s says that a part of it is copied. "
                           "Remove the file to begin anew",
                           run->target.label, run->cells->path);
    if (run->job->params.digest == DROVER_DIGEST_NONE)
        return true;
    /* --verify will look at all of the target, and name what differs. */
    return is_still_there(run, &run->source, size, error) &&
           (run->job->verify || is_still_there(run, &run->target, size, error));
}

static bool open_cells(Run *run, GError **error)
{
    DroverJob *job = run->job;
    DroverCopyScan scan = {0};
    g_autoptr(DroverRangeset) areas = NULL;
    uint64_t size = 0;
    if (!read_areas(run, error))
        return false;
    if (*job->resume_file != '\0') {
        if (!drover_copy_probe(&run->source.endpoint, run->stopped, &scan, error))
            return false;
        size = scan.size_bytes;
        areas = run->areas != NULL ? drover_rangeset_new() : NULL;
        if (areas != NULL && !round_areas(run, &scan, areas, error))
            return false;
        /* What an earlier run left at the target in a cell that it did not finish is not zero. */
        bool begun = g_file_test(job->resume_file, G_FILE_TEST_EXISTS);
        job->params.target_is_zero = job->params.target_is_zero && !begun;
        job->params.source_size = size;
    }
    run->cells = drover_cells_open(*job->resume_file != '\0' ? job->resume_file : NULL, job->params.digest,
                                   size, run->source.identity, run->target.identity, areas, error);
    if (run->cells == NULL || !check_resumed(run, size, error))
        return false;
    for (guint i = 0; i < run->cells->cells->len; i++) {
        const DroverCopyCell *cell = &g_array_index(run->cells->cells, DroverCopyCell, i);
        run->already_bytes += cell->data_bytes + cell->zero_found_bytes + cell->skipped_bytes;
    }
    job->params.done_cells = run->cells->done->data;
    job->params.done_cells_len = run->cells->done->len;
    return true;
}

static bool copy(Run *run, DroverCopyResult *result, GError **error)
{
    DroverJob *job = run->job;
    job->params.source = run->source.endpoint;
    job->params.target = run->target.endpoint;
    job->params.callbacks =
        (DroverCopyCallbacks){.data = run, .on_cells_done = cells_done, .on_progress = progressed};
    g_autoptr(DroverCopy) running = drover_copy_new(&job->params, error);
    if (running == NULL)
        return false;
    set_copy(run, running);
    bool ok = drover_copy_run(running, result, error);
    set_copy(run, NULL);
    drover_report_progress_end(job->show);
    return ok;
}

static void differs(void *data, uint64_t cell, DroverRange range)
{
    Run *run = data;
    g_array_append_val(run->different, range);
    drover_error("copy.different", "A cell at the target is not what was read from the source",
                 F_U("cell", cell), F_U("offset", range.offset), F_U("length", range.length));
}

static bool verify(Run *run, const DroverCopyResult *result, GError **error)
{
    DroverCopyVerify check = {
        .digest = run->job->params.digest,
        .size_bytes = result->source_size,
        .cells = (const DroverCopyCell *)run->cells->cells->data,
        .n = run->cells->cells->len,
        .connect_deadline_ms = run->job->params.connect_deadline_ms,
        .reconnect_deadline_ms = run->job->params.reconnect_deadline_ms,
        .stall_deadline_ms = run->job->params.stall_deadline_ms,
        .data = run,
        .on_different = differs,
    };
    uint64_t different;
    return drover_copy_verify(&run->target.endpoint, &check, run->stopped, &different, error);
}

/* One number for the whole disk: the digest over all roots in order. */
static void sum_up(const Run *run, DroverReport *report)
{
    size_t len = drover_digest_len(run->job->params.digest);
    if (len == 0 || run->cells == NULL || !report->result->complete)
        return;
    g_autoptr(GByteArray) roots = g_byte_array_new();
    for (guint i = 0; i < run->cells->cells->len; i++)
        g_byte_array_append(roots, g_array_index(run->cells->cells, DroverCopyCell, i).digest.bytes,
                            (guint)len);
    DroverDigest digest;
    drover_digest_bytes(run->job->params.digest, roots->data, roots->len, &digest);
    for (size_t i = 0; i < len; i++)
        g_snprintf(report->round_digest + 2 * i, 3, "%02x", digest.bytes[i]);
}

static DroverExit exit_code(const Run *run, const DroverCopyResult *result, const GError *error)
{
    if (error == NULL)
        return run->different->len > 0 ? DROVER_EXIT_DIFFERENT : DROVER_EXIT_OK;
    if (result->cancelled || g_cancellable_is_cancelled(run->stopped))
        return DROVER_EXIT_STOPPED;
    return drover_error_class(error) == DROVER_ERROR_RETRYABLE ? DROVER_EXIT_RETRYABLE
                                                               : DROVER_EXIT_PERMANENT;
}

DroverExit drover_job_run(DroverJob *job)
{
    Run run = {.job = job,
               .stopped = g_cancellable_new(),
               .ended = g_cancellable_new(),
               .different = g_array_new(FALSE, FALSE, sizeof(DroverRange))};
    DroverCopyResult result = {0};
    g_autoptr(GError) error = NULL;
    g_mutex_init(&run.lock);
    bool ok = open_rate_file(&run, &error);
    GThread *watcher = g_thread_new("signals", watch_signals, &run);
    ok = ok && open_ends(&run, &error) && open_cells(&run, &error);
    guint before = run.cells != NULL ? run.cells->cells->len : 0;
    ok = ok && copy(&run, &result, &error);
    bool verified = false;
    if (ok) {
        drover_cells_sort(run.cells);
        verified = job->verify && verify(&run, &result, &error);
    }
    g_cancellable_cancel(run.ended);
    g_thread_join(watcher);
    g_mutex_clear(&run.lock);
    DroverReport report = {.source = job->source,
                           .target = job->target,
                           .digest = job->params.digest,
                           .result = &result,
                           .error = error,
                           .cells_before = before,
                           .verified = verified,
                           .different = run.different};
    report.source = run.source.label != NULL ? run.source.label : "";
    report.target = run.target.label != NULL ? run.target.label : "";
    sum_up(&run, &report);
    DroverExit code = exit_code(&run, &result, error);
    if (error != NULL)
        drover_error("copy.failed", error->message,
                     F_S("class", drover_error_class_name(drover_error_class(error))));
    g_autoptr(GError) report_error = NULL;
    if (*job->report_file != '\0' && !drover_report_write(job->report_file, &report, &report_error)) {
        drover_error("report.failed", report_error->message);
        code = code == DROVER_EXIT_OK ? DROVER_EXIT_PERMANENT : code;
    }
    end_clear(&run.source);
    end_clear(&run.target);
    drover_cells_free(run.cells);
    g_array_unref(run.different);
    g_clear_pointer(&run.areas, g_array_unref);
    g_object_unref(run.stopped);
    g_object_unref(run.ended);
    g_free(run.token);
    return code;
}
