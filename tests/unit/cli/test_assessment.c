/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/assessment.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "cli/columns.h"
#include "cli/job-template.h"
#include "cli/job-file.h"
#include "lib/vsphere/vm-make.h"

#define GIB (UINT64_C(1) << 30)

static void add_finding(DroverAssessed *a, DroverSeverity severity, const char *code)
{
    DroverFinding *finding = g_new0(DroverFinding, 1);
    *finding = (DroverFinding){severity, code, g_strdup("because\nof this"), 0};
    g_ptr_array_add(a->findings, finding);
}

static void free_finding(gpointer finding)
{
    drover_finding_free(finding);
}

static DroverAssessed *a_vm(const char *name, uint64_t capacity, uint64_t used)
{
    DroverAssessed *a = g_new0(DroverAssessed, 1);
    a->vm = drover_vsphere_vm_new();
    drover_vsphere_set(&a->vm->name, name);
    drover_vsphere_set(&a->vm->moref, "vm-7");
    drover_vsphere_set(&a->vm->instance_uuid, "502b3f0e-5d1c-8a3e-1f6b-0d9a7c4e2b11");
    DroverVsphereDisk *disk = drover_vsphere_disk_new();
    disk->key = 2000;
    disk->capacity_bytes = capacity;
    drover_vsphere_set(&disk->label, name);
    g_ptr_array_add(a->vm->disks, disk);
    a->vm->committed_bytes = used;
    a->findings = g_ptr_array_new_with_free_func(free_finding);
    a->used_bytes = drover_used_bytes(a->vm);
    DroverEstimateFacts facts = {.used_bytes = a->used_bytes};
    a->estimate = drover_estimate(&facts);
    return a;
}

static void used_bytes(void **state)
{
    (void)state;
    static const struct {
        uint64_t committed, used;
    } cases[] = {{0, 10 * GIB}, {3 * GIB, 3 * GIB}, {12 * GIB, 10 * GIB}};
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        DroverAssessed *a = a_vm("x", 10 * GIB, cases[i].committed);
        assert_int_equal(a->used_bytes, cases[i].used);
        drover_assessed_free(a);
    }
}

static GPtrArray *three(void)
{
    GPtrArray *vms = g_ptr_array_new_with_free_func((GDestroyNotify)drover_assessed_free);
    g_ptr_array_add(vms, a_vm("=cmd(\"x\")", 10 * GIB, GIB));
    g_ptr_array_add(vms, a_vm("stopped", 10 * GIB, GIB));
    g_ptr_array_add(vms, a_vm("warned", 10 * GIB, GIB));
    add_finding(vms->pdata[1], DROVER_FINDING_ERROR, "DRV-A");
    add_finding(vms->pdata[1], DROVER_FINDING_ERROR, "DRV-A");
    add_finding(vms->pdata[1], DROVER_FINDING_INFO, "DRV-B");
    add_finding(vms->pdata[2], DROVER_FINDING_WARNING, "DRV-C");
    return vms;
}

static void waves(void **state)
{
    (void)state;
    g_autoptr(GPtrArray) vms = three();
    DroverWaveLimits limits = {.window_ms = 3600000, .parallel = 1, .most_vms = 1};
    assert_int_equal(drover_assess_waves(vms, &limits), 2);
    assert_int_equal(((DroverAssessed *)vms->pdata[0])->wave, 1);
    assert_int_equal(((DroverAssessed *)vms->pdata[1])->wave, 0); /* no-go */
    assert_int_equal(((DroverAssessed *)vms->pdata[2])->wave, 2);
    g_autofree char *table = drover_assessment_table(vms);
    g_auto(GStrv) lines = g_strsplit(table, "\n", -1);
    assert_int_equal(g_strv_length(lines), 5);
    assert_non_null(strstr(lines[2], "no-go"));
    assert_true(g_str_has_suffix(lines[2], "  DRV-A")); /* once, and no infos */
    assert_non_null(strstr(lines[3], "go, warnings"));
}

static void spreadsheet(void **state)
{
    (void)state;
    g_autoptr(GPtrArray) vms = three();
    g_autofree char *csv = drover_assessment_csv(vms);
    g_auto(GStrv) lines = g_strsplit(csv, "\r\n", -1);
    assert_int_equal(g_strv_length(lines), 5);
    assert_true(g_str_has_prefix(lines[1], "\"'=cmd(\"\"x\"\")\",")); /* a name, not a formula */
    assert_true(g_str_has_suffix(lines[2], ",\"DRV-A DRV-B\""));
}

static void json(void **state)
{
    (void)state;
    g_autoptr(GPtrArray) vms = three();
    json_t *list = drover_assessment_json("dc1", vms), *second = json_array_get(list, 1);
    assert_int_equal(json_array_size(list), 3);
    assert_true(json_is_false(json_object_get(second, "go")) && json_is_null(json_object_get(second, "wave")));
    assert_int_equal(json_array_size(json_object_get(second, "findings")), 3);
    assert_int_equal(json_integer_value(json_object_get(second, "copy_bytes")), GIB);
    json_decref(list);
}

static void columns(void **state)
{
    (void)state;
    static const char *const headings[] = {"A", ">B", "C", NULL};
    g_autoptr(DroverColumns) c = drover_columns_new(headings);
    const char *cells[] = {"größer", "1", "x", "a", "100", ""};
    for (guint i = 0; i < G_N_ELEMENTS(cells); i++)
        drover_columns_add(c, g_strdup(cells[i]));
    g_autofree char *text = drover_columns_text(c);
    assert_string_equal(text, "A         B  C\ngrößer    1  x\na       100\n");
}

/* Whatever a VM is called, its template is a job file with its disks and nothing else. */
static void template(void **state)
{
    (void)state;
    static const char *const names[] = {"web01", "Web (prod) #1", "evil\ndisks: []\nfailover: true", "***", "\xff\xfe", "true"};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        DroverAssessed *a = a_vm(names[i], GIB, 0);
        add_finding(a, DROVER_FINDING_WARNING, "DRV-C");
        drover_vsphere_set(&a->vm->firmware, i % 2 ? "efi" : "bios");
        drover_vsphere_set(&a->vm->inventory_path, names[i]);
        drover_vsphere_set(&a->vm->guest_full_name, names[i]);
        g_ptr_array_add(a->vm->nics, drover_vsphere_nic_new());
        g_autofree char *text = drover_job_template("dc1", a->vm, a->findings);
        g_auto(DroverRequest) r;
        drover_request_init(&r);
        g_autoptr(GError) error = NULL;
        if (!drover_job_file_parse("t", text, &r, &error))
            fail_msg("%s\n%s", error->message, text);
        assert_int_equal(r.disks->len, 1);
        assert_int_equal(g_array_index(r.disks, DroverSource, 0).disk_key, 2000);
        assert_false(r.failover);
        assert_string_equal(r.boot_type, i % 2 ? "UEFI" : "BIOS");
        drover_assessed_free(a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(used_bytes), cmocka_unit_test(waves),   cmocka_unit_test(spreadsheet),
        cmocka_unit_test(json),       cmocka_unit_test(columns), cmocka_unit_test(template),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
