/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/watch.h"

#include <langinfo.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/render.h"
#include "lib/base/drain.h"
#include "lib/base/ids.h"

#define REFRESH_MS 250
#define LINE_EVERY_MS 2000
#define HINT_AFTER_MS 20000

typedef struct {
    const char *job_id;
    DroverJobView *view; /* newest; NULL: not in the view yet */
    char *line;          /* last one printed */
    char *state;         /* status and operation of that line */
    int64_t line_at_ms;
    bool done;
} Watched;

typedef struct {
    DroverSession *session;
    const DroverWatchOptions *options;
    GArray *jobs; /* Watched */
    bool terminal;
    bool unreachable; /* said so already */
    bool hinted;
    int drawn; /* lines on the screen that the next drawing replaces */
    int64_t started_ms;
} Watch;

static void watched_clear(gpointer data)
{
    Watched *w = data;
    drover_job_view_free(w->view);
    g_free(w->line);
    g_free(w->state);
}

static Watched *job_at(const Watch *watch, guint i)
{
    return &g_array_index(watch->jobs, Watched, i);
}

static bool is_finished(const Watch *watch, const DroverJobView *view)
{
    return watch->options->finished ? watch->options->finished(view) : drover_view_ended(view);
}

static DroverScreen screen_now(void)
{
    struct winsize size = {0};
    int columns = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 100;
    return (DroverScreen){.columns = columns, .unicode = strcmp(nl_langinfo(CODESET), "UTF-8") == 0, .color = true};
}

static void draw(Watch *watch)
{
    DroverScreen screen = screen_now();
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < watch->jobs->len; i++) {
        const Watched *w = job_at(watch, i);
        if (w->view)
            drover_render_bars(w->view, &screen, lines);
        else
            g_ptr_array_add(lines, g_strdup_printf("%s  submitted, not taken by a scheduler yet", w->job_id));
    }
    GString *out = g_string_new(NULL);
    if (watch->drawn > 0)
        g_string_append_printf(out, "\033[%dA", watch->drawn);
    for (guint i = 0; i < lines->len; i++)
        g_string_append_printf(out, "\r\033[K%s\n", (char *)g_ptr_array_index(lines, i));
    g_string_append(out, "\033[J");
    fputs(out->str, stdout);
    fflush(stdout);
    g_string_free(out, TRUE);
    watch->drawn = (int)lines->len;
}

/* Without a terminal: changes of state at once, moving numbers now and then. */
static void print_changes(Watch *watch)
{
    for (guint i = 0; i < watch->jobs->len; i++) {
        Watched *w = job_at(watch, i);
        if (!w->view)
            continue;
        g_autofree char *state = g_strconcat(drover_view_text(w->view->fields, "status"), " ",
                                             drover_view_text(w->view->fields, "current_operation"), NULL);
        g_autofree char *line = drover_render_line(w->view);
        bool new_state = g_strcmp0(state, w->state) != 0;
        if (g_strcmp0(line, w->line) == 0 || (!new_state && drover_boottime_ms() < w->line_at_ms + LINE_EVERY_MS))
            continue;
        g_print("%s\n", line);
        fflush(stdout);
        g_free(w->line);
        g_free(w->state);
        w->line = g_steal_pointer(&line);
        w->state = g_steal_pointer(&state);
        w->line_at_ms = drover_boottime_ms();
    }
}

static void say_unreachable(Watch *watch, const GError *error)
{
    if (!watch->unreachable)
        g_printerr("%s\nWaiting for it; the jobs do not depend on it.\n", error->message);
    watch->unreachable = true;
    watch->drawn = 0;
}

static bool refresh(Watch *watch, GError **error)
{
    for (guint i = 0; i < watch->jobs->len; i++) {
        Watched *w = job_at(watch, i);
        DroverJobView *view = NULL;
        if (!drover_view_job(watch->session->redis, w->job_id, &view, error))
            return false;
        /* A view that is being rebuilt lacks the job for a moment: keep what we saw. */
        if (!view)
            continue;
        drover_job_view_free(w->view);
        w->view = view;
        w->done = is_finished(watch, view);
    }
    watch->unreachable = false;
    return true;
}

static bool all_done(const Watch *watch)
{
    for (guint i = 0; i < watch->jobs->len; i++)
        if (!job_at(watch, i)->done)
            return false;
    return true;
}

static const Watched *missing(const Watch *watch)
{
    for (guint i = 0; i < watch->jobs->len; i++)
        if (!job_at(watch, i)->view)
            return job_at(watch, i);
    return NULL;
}

static void hint(Watch *watch)
{
    if (watch->hinted || !missing(watch) || drover_boottime_ms() < watch->started_ms + HINT_AFTER_MS)
        return;
    watch->hinted = true;
    watch->drawn = 0;
    g_printerr("The view does not have the job yet: are a scheduler and a progress aggregator running? (drover fleet)\n");
}

static DroverExitCode outcome(const Watch *watch)
{
    DroverExitCode code = DROVER_EXIT_OK;
    for (guint i = 0; i < watch->jobs->len; i++) {
        const Watched *w = job_at(watch, i);
        g_autofree char *text = drover_render_outcome(w->view);
        bool succeeded =
            watch->options->succeeded ? watch->options->succeeded(w->view) : drover_view_succeeded(w->view);
        if (succeeded)
            g_print("%s\n", text);
        else
            g_printerr("%s\n", text);
        if (!succeeded)
            code = DROVER_EXIT_JOB_FAILED;
    }
    return code;
}

static DroverExitCode follow(Watch *watch)
{
    for (;;) {
        g_autoptr(GError) error = NULL;
        bool seen = refresh(watch, &error);
        if (!seen)
            say_unreachable(watch, error);
        else if (watch->terminal && !watch->options->quiet)
            draw(watch);
        else if (!watch->options->quiet)
            print_changes(watch);
        if (seen && all_done(watch))
            return outcome(watch);
        const Watched *absent = missing(watch);
        if (seen && absent && watch->options->appear_ms >= 0 &&
            drover_boottime_ms() > watch->started_ms + watch->options->appear_ms) {
            g_printerr("drover %s: no job '%s' in the view; `drover jobs` lists those there are\n",
                       watch->session->command->name, absent->job_id);
            return DROVER_EXIT_NOT_FOUND;
        }
        hint(watch);
        if (drover_drain_wait(seen ? REFRESH_MS : 1000)) {
            g_printerr("\nThe job goes on. Follow it again with: drover watch %s\n", job_at(watch, 0)->job_id);
            return DROVER_EXIT_INTERRUPTED;
        }
    }
}

DroverExitCode drover_watch(DroverSession *session, const char *const *job_ids, const DroverWatchOptions *options)
{
    g_autoptr(GError) error = NULL;
    if (!session->redis && !drover_session_redis(session, &error))
        return drover_session_fail(session, error);
    g_autoptr(GArray) jobs = g_array_new(FALSE, TRUE, sizeof(Watched));
    g_array_set_clear_func(jobs, watched_clear);
    for (; *job_ids; job_ids++) {
        Watched w = {.job_id = *job_ids};
        g_array_append_val(jobs, w);
    }
    Watch watch = {.session = session,
                   .options = options,
                   .jobs = jobs,
                   .terminal = isatty(STDOUT_FILENO),
                   .started_ms = drover_boottime_ms()};
    return follow(&watch);
}
