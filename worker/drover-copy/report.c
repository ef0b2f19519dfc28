/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/drover-copy/report.h"

#include <jansson.h>
#include <stdio.h>

static const char *stall_name(DroverStallCause cause)
{
    static const char *const names[] = {"", "none", "source", "target", "throttle", "reconnect"};
    return cause < G_N_ELEMENTS(names) ? names[cause] : "";
}

static void draw_bar(const DroverCopyProgress *progress, uint64_t done, uint64_t total)
{
    enum { WIDTH = 30 };
    unsigned filled = total > 0 ? (unsigned)((double)done / (double)total * WIDTH) : WIDTH;
    char bar[WIDTH + 1];
    for (unsigned i = 0; i < WIDTH; i++)
        bar[i] = i < filled ? '#' : '-';
    bar[WIDTH] = '\0';
    const char *stall = progress->stall_cause > DROVER_STALL_NONE ? stall_name(progress->stall_cause) : "";
    fprintf(stderr, "\r[%s] %5.1f %%  %7.1f MB/s  %s%s\033[K", bar,
            total > 0 ? 100.0 * (double)done / (double)total : 100.0,
            (double)progress->rate_bytes_per_second / 1e6, *stall != '\0' ? "waits for: " : "", stall);
}

void drover_report_progress(DroverShow show, const DroverCopyProgress *progress, uint64_t already_bytes)
{
    const DroverCopyCounts *counts = &progress->counts;
    uint64_t done = already_bytes + counts->data_bytes + counts->zero_found_bytes + counts->skipped_bytes;
    uint64_t total = already_bytes + progress->total_bytes;
    if (show == DROVER_SHOW_BAR)
        draw_bar(progress, MIN(done + progress->pending_bytes, total), total);
    else if (show == DROVER_SHOW_JSON)
        fprintf(stderr,
                "{\"done_bytes\":%" G_GUINT64_FORMAT ",\"total_bytes\":%" G_GUINT64_FORMAT
                ",\"data_bytes\":%" G_GUINT64_FORMAT ",\"in_flight_bytes\":%" G_GUINT64_FORMAT
                ",\"rate_bytes_per_second\":%" G_GUINT64_FORMAT ",\"read_window_bytes\":%" G_GUINT64_FORMAT ",\"stall\":\"%s\"}\n",
                done, total, counts->data_bytes, progress->in_flight_bytes, progress->rate_bytes_per_second,
                progress->read_window_bytes, stall_name(progress->stall_cause));
}

void drover_report_progress_end(DroverShow show)
{
    if (show == DROVER_SHOW_BAR)
        fputc('\n', stderr);
}

static json_t *latencies(const uint64_t us[3])
{
    return json_pack("{s:I,s:I,s:I}", "p50", (json_int_t)us[0], "p95", (json_int_t)us[1], "p99",
                     (json_int_t)us[2]);
}

static json_t *window(const uint64_t bytes[2])
{
    return json_pack("{s:I,s:I}", "largest", (json_int_t)bytes[0], "last", (json_int_t)bytes[1]);
}

static json_t *tls(const DroverTlsStats *stats)
{
    if (stats->handshakes == 0)
        return json_null();
    return json_pack("{s:s,s:s,s:s,s:i,s:i}", "by", stats->how, "version", stats->version, "cipher", stats->cipher,
                     "handshakes", (int)stats->handshakes, "resumed", (int)stats->resumed);
}

static json_t *ranges(const GArray *list)
{
    json_t *array = json_array();
    for (guint i = 0; list != NULL && i < list->len; i++) {
        const DroverRange *range = &g_array_index(list, DroverRange, i);
        json_array_append_new(array, json_pack("{s:I,s:I}", "offset", (json_int_t)range->offset, "length",
                                               (json_int_t)range->length));
    }
    return array;
}

static json_t *build(const DroverReport *report)
{
    const DroverCopyResult *r = report->result;
    const DroverCopyCounts *c = &r->counts;
    json_t *root = json_object();
    json_object_set_new(root, "source", json_string(report->source));
    json_object_set_new(root, "target", json_string(report->target));
    json_object_set_new(root, "complete", json_boolean(r->complete));
    json_object_set_new(root, "source_bytes", json_integer((json_int_t)r->source_size));
    json_object_set_new(root, "target_bytes", json_integer((json_int_t)r->target_size));
    json_object_set_new(root, "bytes",
                        json_pack("{s:I,s:I,s:I,s:I,s:I,s:I}", "data", (json_int_t)c->data_bytes, "zero",
                                  (json_int_t)c->zero_found_bytes, "skipped", (json_int_t)c->skipped_bytes,
                                  "resent", (json_int_t)c->resent_bytes, "read", (json_int_t)c->read_bytes,
                                  "sent", (json_int_t)r->data_bytes_sent));
    json_object_set_new(root, "cells",
                        json_pack("{s:I,s:I}", "done", (json_int_t)r->cells_done, "before",
                                  (json_int_t)report->cells_before));
    json_object_set_new(root, "requests",
                        json_pack("{s:I,s:I,s:I,s:I,s:I}", "read", (json_int_t)r->read_requests, "write",
                                  (json_int_t)r->write_requests, "zero", (json_int_t)r->zero_requests,
                                  "extents", (json_int_t)r->extents_requests, "flush",
                                  (json_int_t)r->flush_requests));
    json_object_set_new(
        root, "connections",
        json_pack("{s:i,s:i}", "source", (int)r->connections_source, "target", (int)r->connections_target));
    json_object_set_new(root, "tls",
                        json_pack("{s:o,s:o}", "source", tls(&r->tls_source), "target", tls(&r->tls_target)));
    json_object_set_new(root, "reconnects", json_integer((json_int_t)r->reconnects));
    json_object_set_new(root, "extents_available", json_boolean(r->extents_available));
    json_object_set_new(root, "read_latency_us", latencies(r->read_latency_us));
    json_object_set_new(root, "write_latency_us", latencies(r->write_latency_us));
    json_object_set_new(root, "read_window_bytes", window(r->read_window_bytes));
    json_object_set_new(root, "write_window_bytes", window(r->write_window_bytes));
    json_object_set_new(root, "duration_us", json_integer((json_int_t)r->duration_us));
    json_object_set_new(root, "throttled_us", json_integer((json_int_t)r->throttled_us));
    json_object_set_new(root, "digest_algorithm", json_string(drover_digest_name(report->digest)));
    json_object_set_new(root, "digest",
                        report->round_digest[0] != '\0' ? json_string(report->round_digest) : json_null());
    json_object_set_new(root, "verified", json_boolean(report->verified));
    json_object_set_new(root, "different", ranges(report->different));
    if (report->error != NULL) {
        g_autofree char *code = drover_error_code(report->error->message);
        json_object_set_new(root, "error",
                            json_pack("{s:s,s:s,s:s}", "class",
                                      drover_error_class_name(drover_error_class(report->error)), "code",
                                      code, "message", report->error->message));
        if (r->failed_range.length > 0)
            json_object_set_new(root, "failed_range",
                                json_pack("{s:I,s:I}", "offset", (json_int_t)r->failed_range.offset, "length",
                                          (json_int_t)r->failed_range.length));
    }
    return root;
}

bool drover_report_write(const char *path, const DroverReport *report, GError **error)
{
    json_t *root = build(report);
    char *text = json_dumps(root, JSON_INDENT(2));
    json_decref(root);
    g_autofree char *line = g_strconcat(text, "\n", NULL);
    free(text);
    if (g_strcmp0(path, "-") == 0) {
        g_print("%s", line);
        return true;
    }
    g_autoptr(GError) cause = NULL;
    if (g_file_set_contents(path, line, -1, &cause))
        return true;
    return drover_fail(error, DROVER_ERROR_PERMANENT, "The report cannot be written: %s", cause->message);
}
