/* SPDX-License-Identifier: Apache-2.0 */
/* What may be a job. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "core/job/spec.h"

static const char *const one_site[] = {"site-1", NULL};
static const char *const two_sites[] = {"site-1", "site-2", NULL};
static const char *const agents[] = {"appliance-1", NULL};

typedef struct {
    DroverRequest request;
    DroverDiskRequest disks[2];
    DroverPlaces places;
    GBytes *spec;
} Case;

static int setup(void **state)
{
    Case *c = g_new0(Case, 1);
    c->spec = g_bytes_new("", 0);
    c->disks[0] = (DroverDiskRequest){
        .disk_id = "disk0", .source_kind = "file", .source = "/a.raw", .spec = c->spec};
    c->disks[1] = (DroverDiskRequest){
        .disk_id = "disk1", .source_kind = "file", .source = "/b.raw", .spec = c->spec};
    c->request = (DroverRequest){.job_id = "j",
                                 .name = "web01",
                                 .site = "",
                                 .agent = "",
                                 .submitter = "",
                                 .disks = c->disks,
                                 .n_disks = 2,
                                 .spec = c->spec};
    c->places = (DroverPlaces){one_site, agents};
    *state = c;
    return 0;
}

static int teardown(void **state)
{
    Case *c = *state;
    g_bytes_unref(c->spec);
    g_free(c);
    return 0;
}

static void refused(Case *c, const char *code)
{
    DroverFault fault = {0};
    assert_false(drover_spec_check(&c->request, &c->places, &fault));
    assert_string_equal(fault.code, code);
    assert_true(g_str_has_prefix(fault.message, code));
    assert_int_equal(fault.error_class, DROVER_ERROR_PERMANENT);
    drover_fault_clear(&fault);
    /* As a job, it fails at once and has made nothing. */
    DroverLimits limits = DROVER_LIMITS_DEFAULT;
    DroverAt at = {.now_ms = 5};
    g_autoptr(GPtrArray) outputs = drover_outputs_new();
    g_autoptr(DroverJob) job = drover_job_submit(&c->request, &c->places, &limits, &at, outputs);
    assert_int_equal(job->phase, DROVER_PHASE_FAILED);
    assert_string_equal(job->error.code, code);
    assert_int_equal(job->disks->len, 0);
    assert_null(drover_job_check(job));
}

static void test_accepted(void **state)
{
    Case *c = *state;
    DroverFault fault = {0};
    assert_true(drover_spec_check(&c->request, &c->places, &fault));
    c->request.site = "site-1";
    c->request.agent = "appliance-1";
    c->request.digest = 3;
    c->disks[0].has_target_size = true;
    c->disks[0].target_size_bytes = 1;
    assert_true(drover_spec_check(&c->request, &c->places, &fault));
    c->disks[1].source = "/a.raw"; /* another kind of source may have the same name */
    c->disks[1].source_kind = "nbd";
    assert_true(drover_spec_check(&c->request, &c->places, &fault));
}

static void test_places(void **state)
{
    Case *c = *state;
    c->request.site = "site-9";
    refused(c, "DRV-SPEC-SITE");
    c->request.site = "";
    c->places.sites = two_sites;
    refused(c, "DRV-SPEC-SITE");
    c->request.site = "site-2";
    c->request.agent = "nobody";
    refused(c, "DRV-SPEC-AGENT");
}

static void test_names(void **state)
{
    Case *c = *state;
    static const char *const bad[] = {"", "-a", "a-", "1a", "a.b", "a b", "\xc3\xa4", "\x01"};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        c->request.name = bad[i];
        refused(c, "DRV-SPEC-NAME");
    }
    g_autofree char *longest = g_strnfill(63, 'a');
    g_autofree char *longer = g_strnfill(64, 'a');
    DroverFault fault = {0};
    c->request.name = longest;
    assert_true(drover_spec_check(&c->request, &c->places, &fault));
    c->request.name = longer;
    refused(c, "DRV-SPEC-NAME");
}

static void test_disks(void **state)
{
    Case *c = *state;
    c->disks[1].source = "/a.raw";
    refused(c, "DRV-SPEC-DUPLICATE");
    c->disks[1].source = "relative.raw";
    refused(c, "DRV-SPEC-SOURCE");
    c->disks[1].source_kind = "";
    refused(c, "DRV-SPEC-SOURCE");
    c->disks[1].source_kind = "file";
    c->disks[1].source = "/b.raw";
    c->disks[1].disk_id = "disk0";
    refused(c, "DRV-SPEC-DISK");
    c->disks[1].disk_id = "a/b";
    refused(c, "DRV-SPEC-DISK");
    c->disks[1].disk_id = "disk1";
    c->disks[1].has_target_size = true;
    refused(c, "DRV-SPEC-SIZE");
    c->request.n_disks = 0;
    refused(c, "DRV-SPEC-DISK");
}

static void test_other(void **state)
{
    Case *c = *state;
    c->request.digest = 4;
    refused(c, "DRV-SPEC-DIGEST");
    c->request.digest = -1;
    refused(c, "DRV-SPEC-DIGEST");
    c->request.digest = 0;
    c->request.round_interval_ms = 1;
    refused(c, "DRV-SPEC-ROUNDS");
    c->request.round_interval_ms = 0;
    g_autofree char *large = g_strnfill(DROVER_SPEC_MAX_BYTES + 1, 'x');
    g_autoptr(GBytes) spec = g_bytes_new(large, DROVER_SPEC_MAX_BYTES + 1);
    c->request.spec = spec;
    refused(c, "DRV-SPEC-SIZE");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_accepted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_places, setup, teardown),
        cmocka_unit_test_setup_teardown(test_names, setup, teardown),
        cmocka_unit_test_setup_teardown(test_disks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
