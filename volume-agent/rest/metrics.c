/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/rest/metrics.h"

#include <math.h>
#include <string.h>

#define N_BUCKETS 14

static const double bounds[N_BUCKETS] = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                                         1,     2.5,  5,     10,   30,  120,  600};

/* Everything that is kept, and what it says of itself. */
static const struct {
    const char *name, *help;
    gboolean histogram;
} families[] = {
    {"drover_agent_cloudstack_calls_total", "Requests to CloudStack, by command", FALSE},
    {"drover_agent_cloudstack_errors_total",
     "Requests that CloudStack refused or did not answer, by command and errorcode", FALSE},
    {"drover_agent_cloudstack_call_seconds", "Time until CloudStack answered, by command", TRUE},
    {"drover_agent_differences_total",
     "Differences that comparing journal, CloudStack and machine found, by kind", FALSE},
    {"drover_agent_operation_seconds",
     "Time from acceptance to end of operations that ended in this process's life", TRUE},
    {"drover_agent_rest_requests_total", "Requests to the REST API, by route and status", FALSE},
    {"drover_agent_rest_request_seconds", "Time to answer a request, waiting included", TRUE},
};

typedef struct {
    uint64_t count;
    double sum;
    uint64_t buckets[N_BUCKETS];
} Series;

struct DroverRestMetrics {
    GMutex lock;
    GTree *series[G_N_ELEMENTS(families)]; /* labels -> Series; sorted, so that the text is stable */
};

static gint by_labels(gconstpointer a, gconstpointer b, gpointer unused)
{
    (void)unused;
    return strcmp(a, b);
}

DroverRestMetrics *drover_rest_metrics_new(void)
{
    DroverRestMetrics *metrics = g_new0(DroverRestMetrics, 1);
    g_mutex_init(&metrics->lock);
    for (size_t i = 0; i < G_N_ELEMENTS(families); i++)
        metrics->series[i] = g_tree_new_full(by_labels, NULL, g_free, g_free);
    return metrics;
}

void drover_rest_metrics_free(DroverRestMetrics *metrics)
{
    if (!metrics)
        return;
    for (size_t i = 0; i < G_N_ELEMENTS(families); i++)
        g_tree_unref(metrics->series[i]);
    g_mutex_clear(&metrics->lock);
    g_free(metrics);
}

/* Called with the lock held. */
static Series *series_of(DroverRestMetrics *metrics, const char *name, const char *labels)
{
    for (size_t i = 0; i < G_N_ELEMENTS(families); i++) {
        if (strcmp(families[i].name, name) != 0)
            continue;
        Series *series = g_tree_lookup(metrics->series[i], labels);
        if (!series)
            g_tree_insert(metrics->series[i], g_strdup(labels), series = g_new0(Series, 1));
        return series;
    }
    g_assert_not_reached();
}

void drover_rest_metrics_add(DroverRestMetrics *metrics, const char *name, const char *labels, uint64_t n)
{
    g_mutex_lock(&metrics->lock);
    series_of(metrics, name, labels)->count += n;
    g_mutex_unlock(&metrics->lock);
}

void drover_rest_metrics_observe(DroverRestMetrics *metrics, const char *name, const char *labels,
                                 double seconds)
{
    g_mutex_lock(&metrics->lock);
    Series *series = series_of(metrics, name, labels);
    series->count++;
    series->sum += seconds;
    for (int i = 0; i < N_BUCKETS; i++)
        series->buckets[i] += seconds <= bounds[i];
    g_mutex_unlock(&metrics->lock);
}

char *drover_rest_labels(const char *name, ...)
{
    GString *out = g_string_new(NULL);
    va_list arguments;
    va_start(arguments, name);
    while (name) {
        const char *value = va_arg(arguments, const char *);
        g_string_append_printf(out, "%s%s=\"", out->len ? "," : "", name);
        for (; *value; value++) {
            if (*value == '\\' || *value == '"')
                g_string_append_c(out, '\\');
            if (*value == '\n')
                g_string_append(out, "\\n");
            else
                g_string_append_c(out, *value);
        }
        g_string_append_c(out, '"');
        name = va_arg(arguments, const char *);
    }
    va_end(arguments);
    return g_string_free(out, FALSE);
}

void drover_rest_metrics_head(GString *out, const char *name, const char *type, const char *help)
{
    g_string_append_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* Whole numbers without a fraction; always with a point, whatever the locale. */
static void append_value(GString *out, double value)
{
    char text[G_ASCII_DTOSTR_BUF_SIZE];
    g_ascii_formatd(text, sizeof text, value == floor(value) && fabs(value) < 1e15 ? "%.0f" : "%.9g", value);
    g_string_append(out, text);
}

void drover_rest_metrics_sample(GString *out, const char *name, const char *labels, double value)
{
    g_string_append_printf(out, "%s%s%s%s ", name, *labels ? "{" : "", labels, *labels ? "}" : "");
    append_value(out, value);
    g_string_append_c(out, '\n');
}

typedef struct {
    GString *out;
    const char *name;
    gboolean histogram;
} Writing;

static gboolean write_series(gpointer key, gpointer value, gpointer data)
{
    const char *labels = key;
    const Series *series = value;
    const Writing *writing = data;
    GString *out = writing->out;
    if (!writing->histogram) {
        drover_rest_metrics_sample(out, writing->name, labels, (double)series->count);
        return FALSE;
    }
    g_autofree char *bucket = g_strconcat(writing->name, "_bucket", NULL);
    g_autofree char *sum = g_strconcat(writing->name, "_sum", NULL);
    g_autofree char *count = g_strconcat(writing->name, "_count", NULL);
    const char *comma = *labels ? "," : "";
    for (int i = 0; i <= N_BUCKETS; i++) {
        char bound[G_ASCII_DTOSTR_BUF_SIZE] = "+Inf";
        if (i < N_BUCKETS)
            g_ascii_formatd(bound, sizeof bound, "%g", bounds[i]);
        g_autofree char *all = g_strdup_printf("%s%sle=\"%s\"", labels, comma, bound);
        drover_rest_metrics_sample(out, bucket, all,
                                   (double)(i < N_BUCKETS ? series->buckets[i] : series->count));
    }
    drover_rest_metrics_sample(out, sum, labels, series->sum);
    drover_rest_metrics_sample(out, count, labels, (double)series->count);
    return FALSE;
}

void drover_rest_metrics_write(DroverRestMetrics *metrics, GString *out)
{
    g_mutex_lock(&metrics->lock);
    for (size_t i = 0; i < G_N_ELEMENTS(families); i++) {
        Writing writing = {out, families[i].name, families[i].histogram};
        drover_rest_metrics_head(out, families[i].name, families[i].histogram ? "histogram" : "counter",
                                 families[i].help);
        g_tree_foreach(metrics->series[i], write_series, &writing);
    }
    g_mutex_unlock(&metrics->lock);
}
