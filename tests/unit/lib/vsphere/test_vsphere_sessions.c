/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "lib/vsphere/session_limit.h"

#define KEY "drover https://vc.example/sdk"

typedef struct {
    GMutex lock;
    unsigned most;
    int open, most_open, rounds;
} Crowd;

static gpointer work(gpointer data)
{
    Crowd *crowd = data;
    for (int i = 0; i < 20; i++) {
        if (!drover_vsphere_session_take(KEY, crowd->most, NULL, NULL))
            return NULL;
        g_mutex_lock(&crowd->lock);
        crowd->open++;
        crowd->most_open = MAX(crowd->most_open, crowd->open);
        g_mutex_unlock(&crowd->lock);
        g_usleep(500);
        g_mutex_lock(&crowd->lock);
        crowd->open--;
        crowd->rounds++;
        g_mutex_unlock(&crowd->lock);
        drover_vsphere_session_give(KEY);
    }
    return NULL;
}

static void no_more_than_allowed_are_open(void **state)
{
    (void)state;
    for (unsigned most = 1; most <= 3; most += 2) { /* with one, each end leaves none open */
        Crowd crowd = {.most = most};
        GThread *threads[8];
        for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
            threads[i] = g_thread_new("work", work, &crowd);
        for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
            g_thread_join(threads[i]);
        assert_int_equal(crowd.rounds, 160);
        assert_int_equal(crowd.open, 0);
        assert_in_range(crowd.most_open, 1, most);
    }
}

static gpointer cancel(gpointer data)
{
    g_usleep(20000);
    g_cancellable_cancel(data);
    return NULL;
}

static void waiting_can_be_cancelled(void **state)
{
    (void)state;
    assert_true(drover_vsphere_session_take(KEY, 1, NULL, NULL));
    assert_true(drover_vsphere_session_take("another", 1, NULL, NULL));
    g_autoptr(GCancellable) cancellable = g_cancellable_new();
    GThread *thread = g_thread_new("cancel", cancel, cancellable);
    g_autoptr(GError) error = NULL;
    assert_false(drover_vsphere_session_take(KEY, 1, cancellable, &error));
    assert_true(g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED));
    g_thread_join(thread);
    drover_vsphere_session_give("another");
    drover_vsphere_session_give(KEY);
    assert_true(drover_vsphere_session_take(KEY, 1, NULL, NULL));
    drover_vsphere_session_give(KEY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_more_than_allowed_are_open),
        cmocka_unit_test(waiting_can_be_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
