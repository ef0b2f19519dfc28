/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's settings for TLS: what goes together, and what is refused before anything moves in plain text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/vsphere/vcenter.h"
#include "worker/options.h"

/* Configures a worker with OPTIONS (NULL-terminated) and hands both to CHECK; NULL with the error otherwise. */
static GError *configure(const char *const *options, void (*check)(const DroverWorker *))
{
    const DroverOption *const tables[] = {drover_worker_options, drover_fleet_options, drover_vsphere_options, NULL};
    g_autoptr(GPtrArray) words = g_ptr_array_new();
    g_ptr_array_add(words, (gpointer) "drover-worker");
    g_ptr_array_add(words, (gpointer) "--fleet-sites=site-1");
    for (size_t i = 0; options[i] != NULL; i++)
        g_ptr_array_add(words, (gpointer)options[i]);
    int argc = (int)words->len;
    g_ptr_array_add(words, NULL);
    char **argv = (char **)words->pdata;
    GError *error = NULL;
    g_autoptr(DroverConfig) config = drover_config_parse("drover-worker", "", "", tables, &argc, &argv, &error);
    if (config == NULL)
        return error;
    DroverWorker worker = {0};
    if (drover_worker_configure(&worker, config, &error)) {
        check(&worker);
        drover_worker_clear(&worker);
    }
    return error;
}

static void expect_all(const DroverWorker *worker)
{
    assert_true(worker->target_tls);
    assert_string_equal(worker->tls.ca_file, "/ca");
    assert_string_equal(worker->tls.cert_file, "/crt");
    assert_string_equal(worker->tls.key_file, "/key");
    assert_string_equal(worker->tls.name, "door.example");
    assert_true(worker->tls.allow_tls12);
}

static void expect_strict(const DroverWorker *worker)
{
    assert_true(worker->target_tls);
    assert_string_equal(worker->tls.name, "");
    assert_false(worker->tls.allow_tls12);
}

static void expect_none(const DroverWorker *worker)
{
    assert_false(worker->target_tls);
    assert_false(worker->tls.allow_tls12);
}

static void test_what_is_taken(void **state)
{
    (void)state;
    const char *const all[] = {"--worker-target-tls",         "--worker-tls-ca=/ca", "--worker-tls-cert=/crt", "--worker-tls-key=/key",
                               "--worker-tls-name=door.example", "--worker-tls-min=1.2", NULL};
    const char *const strict[] = {"--worker-target-tls", NULL}, *const none[] = {NULL};
    assert_null(configure(all, expect_all));
    assert_null(configure(strict, expect_strict));
    assert_null(configure(none, expect_none));
}

static void test_what_is_refused(void **state)
{
    (void)state;
    const char *const without[] = {"--worker-tls-ca=/x", "--worker-tls-cert=/x", "--worker-tls-key=/x", "--worker-tls-name=x"};
    for (size_t i = 0; i < G_N_ELEMENTS(without); i++) {
        const char *const options[] = {without[i], NULL};
        g_autoptr(GError) error = configure(options, expect_none);
        assert_non_null(error);
        assert_non_null(strstr(error->message, "worker.target-tls"));
    }
    const char *const versions[] = {"--worker-tls-min=1.1", "--worker-tls-min=", "--worker-tls-min=1.3.1", "--worker-tls-min=tls1.2"};
    for (size_t i = 0; i < G_N_ELEMENTS(versions); i++) {
        const char *const options[] = {"--worker-target-tls", versions[i], NULL};
        g_autoptr(GError) error = configure(options, expect_strict);
        assert_non_null(error);
        assert_non_null(strstr(error->message, "worker.tls-min"));
    }
}

int main(void)
{
    /* An empty file, so that the machine's own configuration does not count. */
    g_autofree char *file = NULL;
    int fd = g_file_open_tmp("drover-XXXXXX.conf", &file, NULL);
    if (fd == -1 || !g_setenv("DROVER_CONFIG", file, TRUE))
        return 1;
    close(fd);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_taken),
        cmocka_unit_test(test_what_is_refused),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    g_unlink(file);
    return failed;
}
