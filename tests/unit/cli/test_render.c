/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/render.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Fields as "name=value", ended by NULL. */
static GHashTable *hash(const char *const *fields)
{
    GHashTable *h = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    for (; *fields; fields++) {
        g_auto(GStrv) pair = g_strsplit(*fields, "=", 2);
        g_hash_table_insert(h, g_strdup(pair[0]), g_strdup(pair[1]));
    }
    return h;
}

static DroverJobView *view(const char *const *job, const char *const *disk)
{
    static const char *const none[] = {NULL};
    DroverJobView *v = g_new0(DroverJobView, 1);
    v->job_id = g_strdup("mig-1");
    v->fields = hash(job);
    v->failover = hash(none);
    v->disks = g_ptr_array_new_with_free_func((GDestroyNotify)g_hash_table_unref);
    g_ptr_array_add(v->disks, hash(disk));
    return v;
}

static const char *const running[] = {"name=web01",
                                      "status=running",
                                      "current_operation=copying",
                                      "bytes_transferred=500000000",
                                      "total_bytes=1000000000",
                                      "transfer_speed_bps=100000000",
                                      "vma_eta_seconds=5",
                                      NULL};

static void terminal(void **state)
{
    (void)state;
    static const char *const disk[] = {"disk_id=disk0",           "bytes_synced=500000000", "total_bytes=1000000000",
                                       "transfer_speed_bps=1000", "eta_seconds=5",          "format=vhdx",
                                       "extents_available=0",     "sync_status=copying",    NULL};
    g_autoptr(DroverJobView) v = view(running, disk);
    for (int columns = 1; columns < 200; columns++) {
        g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
        drover_render_bars(v, &(DroverScreen){.columns = columns, .unicode = true}, lines);
        assert_int_equal(lines->len, 3);
        for (guint i = 0; i < lines->len; i++)
            assert_true(g_utf8_strlen(g_ptr_array_index(lines, i), -1) < columns || columns == 1);
    }
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    drover_render_bars(v, &(DroverScreen){.columns = 120}, lines);
    assert_non_null(strstr(g_ptr_array_index(lines, 0), "mig-1  web01  copying  50.0%  100 MB/s  ETA 5s"));
    assert_non_null(strstr(g_ptr_array_index(lines, 1), "500 MB / at most 1.00 GB"));
    assert_non_null(strstr(g_ptr_array_index(lines, 2), "does not tell what is in use"));
}

static void pipe_line(void **state)
{
    (void)state;
    static const char *const disk[] = {"disk_id=disk0", "format=qcow2", "extents_available=1", NULL};
    g_autoptr(DroverJobView) v = view(running, disk);
    g_autofree char *line = drover_render_line(v);
    assert_string_equal(line, "mig-1 running copying 50.0% 500 MB of 1.00 GB");
}

static void outcome(void **state)
{
    (void)state;
    static const char *const disk[] = {"disk_id=disk0", NULL};
    static const char *const failed[] = {"name=web01",
                                         "status=failed",
                                         "bytes_transferred=0",
                                         "created_at=2026-11-23T13:00:00.000Z",
                                         "completed_at=2026-11-23T13:01:05.500Z",
                                         "error_message=DRV-SOURCE-MISSING: no such file",
                                         NULL};
    g_autoptr(DroverJobView) v = view(failed, disk);
    g_autofree char *text = drover_render_outcome(v);
    assert_string_equal(text, "mig-1 (web01) failed after 1m 05s, 0 B moved\n  DRV-SOURCE-MISSING: no such file\n"
                              "  More: drover log mig-1");
    assert_true(drover_view_ended(v) && !drover_view_succeeded(v));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(terminal), cmocka_unit_test(pipe_line), cmocka_unit_test(outcome)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
