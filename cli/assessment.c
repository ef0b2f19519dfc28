/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/assessment.h"

#include <string.h>

#include "cli/bar.h"
#include "cli/columns.h"
#include "cli/vm-json.h"

void drover_assessed_free(DroverAssessed *assessed)
{
    if (!assessed)
        return;
    g_clear_pointer(&assessed->vm, drover_vsphere_vm_free);
    g_clear_pointer(&assessed->findings, g_ptr_array_unref);
    g_free(assessed);
}

static uint64_t capacity_of(const DroverVsphereVm *vm)
{
    uint64_t sum = 0;
    for (guint i = 0; i < vm->disks->len; i++)
        sum += ((const DroverVsphereDisk *)vm->disks->pdata[i])->capacity_bytes;
    return sum;
}

uint64_t drover_used_bytes(const DroverVsphereVm *vm)
{
    uint64_t capacity = capacity_of(vm);
    return vm->committed_bytes ? MIN(vm->committed_bytes, capacity) : capacity;
}

static unsigned count(const GPtrArray *findings, DroverSeverity severity)
{
    unsigned n = 0;
    for (guint i = 0; i < findings->len; i++)
        n += ((const DroverFinding *)findings->pdata[i])->severity == severity;
    return n;
}

unsigned drover_assess_waves(GPtrArray *vms, const DroverWaveLimits *limits)
{
    g_autoptr(GArray) plan = g_array_new(FALSE, TRUE, sizeof(DroverWaveVm));
    g_autoptr(GPtrArray) who = g_ptr_array_new();
    for (guint i = 0; i < vms->len; i++) {
        DroverAssessed *a = g_ptr_array_index(vms, i);
        a->wave = 0;
        if (drover_preflight_stops(a->findings))
            continue;
        DroverWaveVm one = {.risk = count(a->findings, DROVER_FINDING_WARNING), .used_bytes = a->used_bytes,
                            .time_ms = a->estimate.first_round_ms.high};
        g_array_append_val(plan, one);
        g_ptr_array_add(who, a);
    }
    unsigned waves = drover_plan_waves((DroverWaveVm *)(void *)plan->data, plan->len, limits);
    for (guint i = 0; i < who->len; i++)
        ((DroverAssessed *)who->pdata[i])->wave = g_array_index(plan, DroverWaveVm, i).wave;
    return waves;
}

/* Errors and warnings, each once; infos too when there is room for them (ALL). */
static char *codes(const GPtrArray *findings, bool all)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    GString *out = g_string_new(NULL);
    for (guint i = 0; i < findings->len; i++) {
        const DroverFinding *finding = g_ptr_array_index(findings, i);
        if ((!all && finding->severity == DROVER_FINDING_INFO) || !g_hash_table_add(seen, (char *)finding->code))
            continue;
        g_string_append_printf(out, "%s%s", out->len ? " " : "", finding->code);
    }
    return g_string_free(out, FALSE);
}

static const char *verdict(const DroverAssessed *a)
{
    if (drover_preflight_stops(a->findings))
        return "no-go";
    return count(a->findings, DROVER_FINDING_WARNING) ? "go, warnings" : "go";
}

static char *span_text(const DroverSpan *span)
{
    g_autofree char *low = drover_duration_text((int64_t)(span->low / 1000));
    g_autofree char *high = drover_duration_text((int64_t)(span->high / 1000));
    return g_strdup_printf("%s - %s", low, high);
}

char *drover_assessment_table(const GPtrArray *vms)
{
    static const char *const headings[] = {"VM", "VERDICT", ">WAVE", ">DISKS", ">CAPACITY", ">USED", ">FIRST ROUND", ">DOWNTIME",
                                           "CODES", NULL};
    g_autoptr(DroverColumns) columns = drover_columns_new(headings);
    for (guint i = 0; i < vms->len; i++) {
        const DroverAssessed *a = g_ptr_array_index(vms, i);
        drover_columns_add(columns, g_strdup(a->vm->name));
        drover_columns_add(columns, g_strdup(verdict(a)));
        drover_columns_add(columns, a->wave ? g_strdup_printf("%u", a->wave) : g_strdup("-"));
        drover_columns_add(columns, g_strdup_printf("%u", a->vm->disks->len));
        drover_columns_add(columns, drover_size_text(capacity_of(a->vm)));
        drover_columns_add(columns, drover_size_text(a->used_bytes));
        drover_columns_add(columns, span_text(&a->estimate.first_round_ms));
        drover_columns_add(columns, span_text(&a->estimate.downtime_ms));
        drover_columns_add(columns, codes(a->findings, false));
    }
    return drover_columns_text(columns);
}

/* A spreadsheet takes a cell that begins with one of these for a formula, and a VM's name is anybody's text. */
static void add_cell(GString *out, const char *text, bool last)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    g_auto(GStrv) parts = g_strsplit(valid, "\"", -1);
    g_autofree char *quoted = g_strjoinv("\"\"", parts);
    g_string_append_printf(out, "\"%s%s\"%s", *valid && strchr("=+-@\t\r", *valid) ? "'" : "", quoted, last ? "\r\n" : ",");
}

static void add_number(GString *out, uint64_t n)
{
    g_string_append_printf(out, "%" G_GUINT64_FORMAT ",", n);
}

char *drover_assessment_csv(const GPtrArray *vms)
{
    GString *out = g_string_new("name,inventory_path,moref,verdict,wave,disks,capacity_bytes,used_bytes,cpus,memory_bytes,"
                                "first_round_seconds_low,first_round_seconds_high,downtime_seconds_low,downtime_seconds_high,"
                                "guest,codes\r\n");
    for (guint i = 0; i < vms->len; i++) {
        const DroverAssessed *a = g_ptr_array_index(vms, i);
        g_autofree char *list = codes(a->findings, true);
        add_cell(out, a->vm->name, false);
        add_cell(out, a->vm->inventory_path, false);
        add_cell(out, a->vm->moref, false);
        add_cell(out, drover_preflight_stops(a->findings) ? "no-go" : "go", false);
        add_number(out, a->wave);
        add_number(out, a->vm->disks->len);
        add_number(out, capacity_of(a->vm));
        add_number(out, a->used_bytes);
        add_number(out, a->vm->cpus);
        add_number(out, a->vm->memory_bytes);
        add_number(out, a->estimate.first_round_ms.low / 1000);
        add_number(out, a->estimate.first_round_ms.high / 1000);
        add_number(out, a->estimate.downtime_ms.low / 1000);
        add_number(out, a->estimate.downtime_ms.high / 1000);
        add_cell(out, *a->vm->guest_full_name ? a->vm->guest_full_name : a->vm->guest_id, false);
        add_cell(out, list, true);
    }
    return g_string_free(out, FALSE);
}

static json_t *span_json(const DroverSpan *span, uint64_t unit)
{
    return json_pack("{s:I, s:I}", "low", (json_int_t)(span->low / unit), "high", (json_int_t)(span->high / unit));
}

json_t *drover_assessment_json(const char *vcenter, const GPtrArray *vms)
{
    json_t *list = json_array();
    for (guint i = 0; i < vms->len; i++) {
        const DroverAssessed *a = g_ptr_array_index(vms, i);
        json_t *o = drover_vm_json(vcenter, a->vm);
        json_t *estimate = json_object();
        json_object_set_new(estimate, "first_round_seconds", span_json(&a->estimate.first_round_ms, 1000));
        json_object_set_new(estimate, "downtime_seconds", span_json(&a->estimate.downtime_ms, 1000));
        json_object_set_new(estimate, "last_round_bytes", span_json(&a->estimate.last_round_bytes, 1));
        json_object_set_new(estimate, "throughput_assumed", json_boolean(a->estimate.throughput_assumed));
        json_object_set_new(estimate, "change_rate_assumed", json_boolean(a->estimate.change_rate_assumed));
        json_object_set_new(estimate, "converges", json_boolean(a->estimate.converges));
        json_object_set_new(o, "go", json_boolean(!drover_preflight_stops(a->findings)));
        json_object_set_new(o, "wave", a->wave ? json_integer(a->wave) : json_null());
        json_object_set_new(o, "copy_bytes", json_integer((json_int_t)a->used_bytes));
        json_object_set_new(o, "estimate", estimate);
        json_object_set_new(o, "findings", drover_findings_json(a->findings));
        json_array_append_new(list, o);
    }
    return list;
}
