/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls the vSphere client for the tests: `vsphere-probe KEY-FILE VCENTER`. Reads one call a line, a JSON array of its name
 * and arguments, and answers each with a JSON object: {"result": …} or {"error": …, "class": …}, and "told" with what the
 * wait reported. The last argument of a call may be {"cancel_after_ms": N, "may_go_on": false}.
 */
#include <stdio.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/vsphere/session.h"
#include "tests/doubles/vsphere-probe/show.h"

typedef struct {
    const DroverVcenter *vcenter;
    DroverVsphere *vsphere;
    GCancellable *cancel;
    json_t *told;
    bool forbidden;
    DroverVsphereWait wait;
} Probe;

static void on_progress(void *data, int percent, const char *state, const char *reason)
{
    Probe *probe = data;
    json_array_append_new(probe->told, json_pack("[iss]", percent, state, reason));
}

static bool on_may_go_on(void *data, GError **error)
{
    const Probe *probe = data;
    return !probe->forbidden || drover_fail(error, DROVER_ERROR_FENCED, "DRV-FENCED: somebody else has it");
}

static const char *text(const json_t *call, size_t i)
{
    const char *value = json_string_value(json_array_get(call, i));
    return value ? value : "";
}

static json_t *truth(bool ok)
{
    return ok ? json_true() : NULL;
}

/* ---- one call each --------------------------------------------------------------------------------------------- */

static json_t *do_open(Probe *p, const json_t *call, GError **error)
{
    (void)call;
    g_clear_pointer(&p->vsphere, drover_vsphere_close);
    p->vsphere = drover_vsphere_open(p->vcenter, p->cancel, error);
    return p->vsphere ? json_pack("{ssss}", "api_version", drover_vsphere_api_version(p->vsphere), "instance_uuid",
                                  drover_vsphere_instance_uuid(p->vsphere))
                      : NULL;
}

static json_t *do_close(Probe *p, const json_t *call, GError **error)
{
    (void)call;
    (void)error;
    g_clear_pointer(&p->vsphere, drover_vsphere_close);
    return json_true();
}

static json_t *do_vms(Probe *p, const json_t *call, GError **error)
{
    g_autoptr(GPtrArray) vms = drover_vsphere_vms(p->vsphere, text(call, 1), p->cancel, error);
    json_t *list = vms ? json_array() : NULL;
    for (guint i = 0; vms && i < vms->len; i++)
        json_array_append_new(list, show_vm(vms->pdata[i]));
    return list;
}

static json_t *do_vm(Probe *p, const json_t *call, GError **error)
{
    g_autoptr(DroverVsphereVm) vm = drover_vsphere_vm(p->vsphere, text(call, 1), text(call, 2), p->cancel, error);
    return vm ? show_vm(vm) : NULL;
}

static json_t *do_missing_privileges(Probe *p, const json_t *call, GError **error)
{
    static const char *const wanted[] = {"VirtualMachine.State.CreateSnapshot", "VirtualMachine.Provisioning.DiskRandomRead",
                                         NULL};
    g_auto(GStrv) missing = drover_vsphere_missing_privileges(p->vsphere, text(call, 1), wanted, p->cancel, error);
    return missing ? show_strings(missing) : NULL;
}

static json_t *do_set_change_tracking(Probe *p, const json_t *call, GError **error)
{
    return truth(drover_vsphere_set_change_tracking(p->vsphere, text(call, 1), json_is_true(json_array_get(call, 2)),
                                                    &p->wait, error));
}

static json_t *do_create_snapshot(Probe *p, const json_t *call, GError **error)
{
    g_autofree char *snapshot = NULL;
    bool ok = drover_vsphere_create_snapshot(p->vsphere, text(call, 1), text(call, 2), text(call, 3),
                                             json_is_true(json_array_get(call, 4)), &p->wait, &snapshot, error);
    return ok ? json_string(snapshot) : NULL;
}

static json_t *do_remove_snapshot(Probe *p, const json_t *call, GError **error)
{
    return truth(drover_vsphere_remove_snapshot(p->vsphere, text(call, 1), &p->wait, error));
}

static json_t *do_consolidate(Probe *p, const json_t *call, GError **error)
{
    return truth(drover_vsphere_consolidate(p->vsphere, text(call, 1), &p->wait, error));
}

static json_t *do_power_on(Probe *p, const json_t *call, GError **error)
{
    return truth(drover_vsphere_power_on(p->vsphere, text(call, 1), &p->wait, error));
}

static json_t *do_power_off(Probe *p, const json_t *call, GError **error)
{
    return truth(drover_vsphere_power_off(p->vsphere, text(call, 1), &p->wait, error));
}

static json_t *do_shutdown_guest(Probe *p, const json_t *call, GError **error)
{
    return truth(drover_vsphere_shutdown_guest(p->vsphere, text(call, 1), &p->wait, error));
}

static json_t *do_guard(Probe *p, const json_t *call, GError **error)
{
    return truth(drover_vsphere_guard(p->vsphere, text(call, 1), json_is_true(json_array_get(call, 2)),
                                      json_string_value(json_array_get(call, 3)), &p->wait, error));
}

static json_t *do_wait_idle(Probe *p, const json_t *call, GError **error)
{
    return truth(drover_vsphere_wait_idle(p->vsphere, text(call, 1), &p->wait, error));
}

static json_t *do_snapshot_disks(Probe *p, const json_t *call, GError **error)
{
    g_autoptr(GPtrArray) disks = drover_vsphere_snapshot_disks(p->vsphere, text(call, 1), p->cancel, error);
    return disks ? show_disks(disks) : NULL;
}

static json_t *do_changed_areas(Probe *p, const json_t *call, GError **error)
{
    g_autoptr(GArray) areas = g_array_new(FALSE, FALSE, sizeof(DroverRange));
    bool ok = drover_vsphere_changed_areas(p->vsphere, text(call, 1), text(call, 2),
                                           (int32_t)json_integer_value(json_array_get(call, 3)), text(call, 4),
                                           (uint64_t)json_integer_value(json_array_get(call, 5)), areas, p->cancel, error);
    return ok ? show_ranges(areas) : NULL;
}

static json_t *do_keep_alive(Probe *p, const json_t *call, GError **error)
{
    (void)error;
    drover_vsphere_keep_alive_every(p->vsphere, (unsigned)json_integer_value(json_array_get(call, 1)));
    return json_true();
}

typedef struct {
    Probe *probe;
    const char *vm;
} Reader;

static gpointer read_often(gpointer data)
{
    const Reader *reader = data;
    for (int i = 0; i < 5; i++) {
        g_autoptr(DroverVsphereVm) vm = drover_vsphere_vm(reader->probe->vsphere, reader->vm, "", NULL, NULL);
        if (vm == NULL)
            return GINT_TO_POINTER(1);
    }
    return NULL;
}

/* A snapshot, and four threads that read five times each on the same session meanwhile; how many of them failed. */
static json_t *do_crowd(Probe *p, const json_t *call, GError **error)
{
    Reader reader = {p, text(call, 1)};
    GThread *threads[4];
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("reader", read_often, &reader);
    json_t *snapshot = do_create_snapshot(p, call, error);
    int failed = 0;
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        failed += GPOINTER_TO_INT(g_thread_join(threads[i]));
    json_decref(snapshot);
    return snapshot ? json_integer(failed) : NULL;
}

static const struct {
    const char *name;
    json_t *(*run)(Probe *probe, const json_t *call, GError **error);
} calls[] = {
    {"open", do_open},
    {"close", do_close},
    {"vms", do_vms},
    {"vm", do_vm},
    {"missing_privileges", do_missing_privileges},
    {"set_change_tracking", do_set_change_tracking},
    {"create_snapshot", do_create_snapshot},
    {"remove_snapshot", do_remove_snapshot},
    {"consolidate", do_consolidate},
    {"power_on", do_power_on},
    {"power_off", do_power_off},
    {"shutdown_guest", do_shutdown_guest},
    {"guard", do_guard},
    {"wait_idle", do_wait_idle},
    {"snapshot_disks", do_snapshot_disks},
    {"changed_areas", do_changed_areas},
    {"keep_alive", do_keep_alive},
    {"crowd", do_crowd},
};

/* ---- the loop -------------------------------------------------------------------------------------------------- */

static gpointer cancel_later(gpointer data)
{
    GCancellable *cancel = data;
    g_usleep(1000 * GPOINTER_TO_UINT(g_object_get_data(G_OBJECT(cancel), "after_ms")));
    g_cancellable_cancel(cancel);
    g_object_unref(cancel);
    return NULL;
}

static json_t *run(Probe *probe, const json_t *call, GError **error)
{
    for (guint i = 0; i < G_N_ELEMENTS(calls); i++) {
        if (strcmp(calls[i].name, text(call, 0)) != 0)
            continue;
        if (probe->vsphere == NULL && calls[i].run != do_open && calls[i].run != do_close) {
            drover_fail(error, DROVER_ERROR_FATAL, "open first");
            return NULL;
        }
        return calls[i].run(probe, call, error);
    }
    drover_fail(error, DROVER_ERROR_FATAL, "no such call: %s", text(call, 0));
    return NULL;
}

static void answer(Probe *probe, const json_t *call)
{
    const json_t *how = json_array_get(call, json_array_size(call) ? json_array_size(call) - 1 : 0);
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    probe->cancel = cancel;
    probe->told = json_array();
    probe->forbidden = json_is_false(json_object_get(how, "may_go_on"));
    probe->wait = (DroverVsphereWait){cancel, on_progress, on_may_go_on, probe};
    GThread *later = NULL;
    if (json_is_integer(json_object_get(how, "cancel_after_ms"))) {
        g_object_set_data(G_OBJECT(cancel), "after_ms",
                          GUINT_TO_POINTER(json_integer_value(json_object_get(how, "cancel_after_ms"))));
        later = g_thread_new("cancel", cancel_later, g_object_ref(cancel));
    }
    g_autoptr(GError) error = NULL;
    json_t *out = json_object();
    json_t *result = run(probe, call, &error);
    g_assert((result == NULL) == (error != NULL));
    if (result != NULL) {
        json_object_set_new(out, "result", result);
    } else {
        json_object_set_new(out, "error", json_string(error->message));
        json_object_set_new(out, "class", json_string(error->domain == DROVER_ERROR
                                                          ? drover_error_class_name((DroverErrorClass)error->code)
                                                          : g_quark_to_string(error->domain)));
    }
    json_object_set_new(out, "told", probe->told);
    char *line = json_dumps(out, JSON_COMPACT);
    puts(line);
    fflush(stdout);
    free(line);
    json_decref(out);
    if (later != NULL)
        g_thread_join(later);
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverVcenter) vcenter = argc == 3 ? drover_vcenter_load(argv[1], argv[2], &error) : NULL;
    if (vcenter == NULL) {
        fprintf(stderr, "%s\n", error ? error->message : "usage: vsphere-probe KEY-FILE VCENTER");
        return 2;
    }
    Probe probe = {.vcenter = vcenter};
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, stdin) > 0) {
        json_t *call = json_loads(line, 0, NULL);
        answer(&probe, call);
        json_decref(call);
    }
    free(line);
    drover_vsphere_close(probe.vsphere);
    return 0;
}
