/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that change nothing: from the journal, CloudStack and the machine as they are now. */
#include <string.h>

#include "lib/base/drain.h"
#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "lib/base/log.h"
#include "volume-agent/reconcile/audit.h"
#include "volume-agent/operations/operations.h"
#include "volume-agent/rest/api.h"
#include "volume-agent/rest/openapi.h"
#include "volume-agent/rest/page.h"
#include "volume-agent/rest/record.h"

/* ---- CloudStack
 * --------------------------------------------------------------------------------------------------- */

json_t *drover_rest_cloud_list(DroverRestApi *api, const char *command, const char *member,
                               const char *const *parameters, DroverRestProblem *problem)
{
    DroverCloudFailure failure;
    g_autoptr(GError) error = NULL;
    json_t *answer = drover_cloudstack_call(api->context->cloud, command, 0, parameters, &failure, &error);
    if (!answer && failure.error_code == 431) /* an id that it does not know */
        return json_array();
    if (!answer) {
        drover_rest_problem_from(problem, error);
        return NULL;
    }
    json_t *rows = json_object_get(answer, member);
    rows = json_is_array(rows) ? json_incref(rows) : json_array();
    json_decref(answer);
    return rows;
}

json_t *drover_rest_cloud_volume(DroverRestApi *api, const char *volume_id, DroverRestProblem *problem)
{
    const char *const parameters[] = {"id", volume_id, "listall", "true", NULL};
    json_t *rows = drover_rest_cloud_list(api, "listVolumes", "volume", parameters, problem);
    if (!rows)
        return NULL;
    json_t *row = json_incref(json_array_get(rows, 0));
    json_decref(rows);
    const char *state = drover_json_text(row, "state");
    if (row && strcmp(state, "Destroy") != 0 && strcmp(state, "Expunged") != 0)
        return row;
    json_decref(row);
    drover_rest_problem(problem, 404, "DRV-VOLUME-MISSING", "CloudStack has no volume %s", volume_id);
    return NULL;
}

bool drover_rest_cloud_has_vm(DroverRestApi *api, const char *vm_id, DroverRestProblem *problem)
{
    const char *const parameters[] = {"id", vm_id, "listall", "true", NULL};
    json_t *rows = drover_rest_cloud_list(api, "listVirtualMachines", "virtualmachine", parameters, problem);
    if (!rows)
        return false;
    bool found = json_array_size(rows) > 0 &&
                 strcmp(drover_json_text(json_array_get(rows, 0), "state"), "Expunged") != 0;
    json_decref(rows);
    return found || drover_rest_problem(problem, 404, "DRV-VM-MISSING", "CloudStack has no VM %s", vm_id);
}

/* ---- volumes and devices
 * ------------------------------------------------------------------------------------------ */

static json_t *device_json(const char *volume_id, const DroverDevice *device)
{
    json_t *json = json_object();
    json_object_set_new(json, "volume_id", json_string(volume_id));
    json_object_set_new(json, "device_path", json_string(device->path));
    json_object_set_new(json, "device_serial", json_string(device->serial));
    json_object_set_new(json, "size_bytes", json_integer((json_int_t)device->size_bytes));
    return json;
}

static json_t *export_of(DroverRestApi *api, const DroverExportRecord *record, const GArray *stats)
{
    const DroverExportStat *found = NULL;
    for (guint i = 0; stats && i < stats->len; i++) {
        const DroverExportStat *stat = &g_array_index(stats, DroverExportStat, i);
        if (strcmp(stat->volume_id, record->volume_id) == 0 && stat->generation == record->generation)
            found = stat;
    }
    json_t *json = drover_rest_export_json(record, found);
    json_object_set_new(json, "nbd_host", json_string(api->context->nbd_public_host));
    json_object_set_new(json, "nbd_port", json_integer(api->context->nbd_public_port));
    return json;
}

static bool get_volume(DroverRestApi *api, const char *volume_id, DroverRestReply *reply,
                       DroverRestProblem *problem)
{
    json_t *row = drover_rest_cloud_volume(api, volume_id, problem);
    if (!row)
        return false;
    json_t *json = drover_rest_volume_json(row, api->context->appliance_vm_id);
    json_decref(row);
    g_auto(DroverDevice) device = {0};
    g_autoptr(GError) why = NULL;
    bool found = drover_device_find(&api->context->roots, volume_id, &device, &why);
    json_object_set_new(json, "device", found ? device_json(volume_id, &device) : json_null());
    g_autoptr(DroverExportRecord) record = drover_export_book_find(api->context->exports, volume_id);
    GArray *stats = record ? drover_nbd_server_stat(api->server, NULL) : NULL;
    json_object_set_new(json, "export", record ? export_of(api, record, stats) : json_null());
    if (stats)
        g_array_unref(stats);
    json_object_set_new(json, "open_operations", drover_rest_view_open_on(api->view, volume_id));
    drover_rest_reply_json(reply, 200, json);
    return true;
}

static bool get_device(DroverRestApi *api, const char *volume_id, DroverRestReply *reply,
                       DroverRestProblem *problem)
{
    g_auto(DroverDevice) device = {0};
    g_autoptr(GError) error = NULL;
    if (drover_device_find(&api->context->roots, volume_id, &device, &error)) {
        drover_rest_reply_json(reply, 200, device_json(volume_id, &device));
        return true;
    }
    return error ? drover_rest_problem_from(problem, error)
                 : drover_rest_problem(problem, 404, "DRV-DEVICE-MISSING",
                                       "Volume %s has no device on the appliance", volume_id);
}

/* By asking what should be plugged in, and finding each by its serial: the device's own name means nothing.
 */
static bool volume_of_device(DroverRestApi *api, const char *wanted, DroverRestReply *reply,
                             DroverRestProblem *problem)
{
    const char *const parameters[] = {"virtualmachineid", api->context->appliance_vm_id, "listall", "true",
                                      NULL};
    json_t *rows = drover_rest_cloud_list(api, "listVolumes", "volume", parameters, problem);
    if (!rows)
        return false;
    g_autofree char *name = g_path_get_basename(wanted);
    bool answered = false;
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row)
    {
        const char *volume_id = drover_json_text(row, "id");
        g_auto(DroverDevice) device = {0};
        if (answered || !drover_device_find(&api->context->roots, volume_id, &device, NULL))
            continue;
        g_autofree char *found = g_path_get_basename(device.path);
        answered = strcmp(found, name) == 0;
        if (answered)
            drover_rest_reply_json(reply, 200, device_json(volume_id, &device));
    }
    json_decref(rows);
    return answered ||
           drover_rest_problem(problem, 404, "DRV-DEVICE-MISSING",
                               "No volume of CloudStack's is attached to the appliance as %s", name);
}

static bool volumes_of_vm(DroverRestApi *api, const char *vm_id, DroverRestReply *reply,
                          DroverRestProblem *problem)
{
    const char *const by_id[] = {"id", vm_id, "listall", "true", NULL};
    json_t *vms = drover_rest_cloud_has_vm(api, vm_id, problem)
                      ? drover_rest_cloud_list(api, "listVirtualMachines", "virtualmachine", by_id, problem)
                      : NULL;
    /* What is a project's shows only to those who name the project. */
    const char *const parameters[] = {"virtualmachineid", vm_id, "listall", "true", "projectid",
                                      drover_json_text(json_array_get(vms, 0), "projectid"), NULL};
    json_t *rows = vms ? drover_rest_cloud_list(api, "listVolumes", "volume", parameters, problem) : NULL;
    json_decref(vms);
    if (!rows)
        return false;
    json_t *list = json_array();
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row)
        json_array_append_new(list, drover_rest_volume_json(row, api->context->appliance_vm_id));
    json_decref(rows);
    drover_rest_reply_json(reply, 200, json_pack("{s:o}", "volumes", list));
    return true;
}

/* ---- operations
 * --------------------------------------------------------------------------------------------------- */

static bool page_of(const DroverRestCall *call, unsigned *limit, uint64_t *before, DroverRestProblem *problem)
{
    g_autofree char *limit_text = drover_rest_query(call, "limit");
    g_autofree char *cursor = drover_rest_query(call, "cursor");
    guint64 n = DROVER_REST_PAGE_DEFAULT;
    *before = 0;
    bool limit_ok =
        !*limit_text || g_ascii_string_to_unsigned(limit_text, 10, 1, DROVER_REST_PAGE_MAX, &n, NULL);
    *limit = (unsigned)n;
    const char *field = !limit_ok                                             ? "limit"
                        : *cursor && !drover_rest_cursor_read(cursor, before) ? "cursor"
                                                                              : NULL;
    if (!field)
        return true;
    if (limit_ok)
        drover_rest_problem(problem, 400, "DRV-REST-REQUEST",
                            "Query parameter 'cursor' is not one that this API gave out");
    else
        drover_rest_problem(problem, 400, "DRV-REST-REQUEST",
                            "Query parameter 'limit' must be a number from 1 to %d", DROVER_REST_PAGE_MAX);
    return drover_rest_problem_detail(problem, "field", field);
}

static bool list_operations(DroverRestApi *api, const DroverRestCall *call, DroverRestReply *reply,
                            DroverRestProblem *problem)
{
    unsigned limit = 0;
    uint64_t before = 0, next = 0;
    if (!page_of(call, &limit, &before, problem))
        return false;
    g_autofree char *kind = drover_rest_query(call, "kind");
    g_autofree char *state = drover_rest_query(call, "state");
    g_autofree char *job_id = drover_rest_query(call, "job_id");
    g_autofree char *volume_id = drover_rest_query(call, "volume_id");
    g_autofree char *vm_id = drover_rest_query(call, "vm_id");
    const DroverRestFilter filter = {kind, state, job_id, volume_id, vm_id};
    json_t *list = drover_rest_view_list(api->view, &filter, before, limit, &next);
    g_autofree char *cursor = next ? drover_rest_cursor(next) : NULL;
    drover_rest_reply_json(reply, 200,
                           json_pack("{s:o, s:o}", "operations", list, "next_cursor",
                                     cursor ? json_string(cursor) : json_null()));
    return true;
}

static bool get_operation(DroverRestApi *api, const DroverRestCall *call, DroverRestReply *reply,
                          DroverRestProblem *problem)
{
    int64_t wait_ms = 0;
    if (!drover_rest_wait_of(call, &wait_ms, problem))
        return false;
    json_t *known = drover_rest_view_operation(api->view, call->parameter, NULL);
    json_decref(known);
    if (known)
        drover_rest_wait(api, call->parameter, wait_ms);
    if (!drover_rest_reply_operation(api, call->parameter, reply, problem))
        return false;
    reply->status = 200;
    g_clear_pointer(&reply->location, g_free);
    return true;
}

/* ---- snapshots, exports
 * ------------------------------------------------------------------------------------------- */

static bool list_snapshots(DroverRestApi *api, const DroverRestCall *call, DroverRestReply *reply)
{
    g_autofree char *volume_id = drover_rest_query(call, "volume_id");
    g_autofree char *vm_id = drover_rest_query(call, "vm_id");
    g_autoptr(GPtrArray) records = drover_snapshot_book_list(api->context->snapshots, volume_id, vm_id);
    json_t *list = json_array();
    for (guint i = 0; i < records->len; i++)
        json_array_append_new(list, drover_rest_snapshot_json(g_ptr_array_index(records, i)));
    drover_rest_reply_json(reply, 200, json_pack("{s:o}", "snapshots", list));
    return true;
}

static bool get_snapshot(DroverRestApi *api, const char *snapshot_id, DroverRestReply *reply,
                         DroverRestProblem *problem)
{
    g_autoptr(DroverSnapshotRecord) record = drover_snapshot_book_find(api->context->snapshots, snapshot_id);
    if (!record)
        return drover_rest_problem(problem, 404, "DRV-SNAPSHOT-MISSING",
                                   "Snapshot %s is not tracked by this agent", snapshot_id);
    drover_rest_reply_json(reply, 200, drover_rest_snapshot_json(record));
    return true;
}

/* CloudStack's view of all snapshots of a volume, and which of them this agent tracks. A volume that is gone may have some. */
static bool snapshots_of_volume(DroverRestApi *api, const char *volume_id, DroverRestReply *reply,
                                DroverRestProblem *problem)
{
    const char *const parameters[] = {"volumeid", volume_id, "listall", "true", NULL};
    json_t *rows = drover_rest_cloud_list(api, "listSnapshots", "snapshot", parameters, problem);
    if (!rows)
        return false;
    json_t *list = json_array(), *row;
    size_t i;
    json_array_foreach(rows, i, row)
    {
        const char *id = drover_json_text(row, "id");
        g_autoptr(DroverSnapshotRecord) known = drover_snapshot_book_find(api->context->snapshots, id);
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:s, s:s, s:s, s:b}", "snapshot_id", id, "volume_id",
                            drover_json_text(row, "volumeid"), "name", drover_json_text(row, "name"), "state",
                            drover_json_text(row, "state"), "created", drover_json_text(row, "created"),
                            "tracked", known != NULL));
    }
    json_decref(rows);
    drover_rest_reply_json(reply, 200, json_pack("{s:o}", "snapshots", list));
    return true;
}

static bool list_exports(DroverRestApi *api, DroverRestReply *reply)
{
    g_autoptr(GPtrArray) records = drover_export_book_list(api->context->exports);
    GArray *stats = drover_nbd_server_stat(api->server, NULL);
    json_t *list = json_array();
    for (guint i = 0; i < records->len; i++)
        json_array_append_new(list, export_of(api, g_ptr_array_index(records, i), stats));
    if (stats)
        g_array_unref(stats);
    drover_rest_reply_json(reply, 200, json_pack("{s:o}", "exports", list));
    return true;
}

static DroverExportRecord *find_export(DroverRestApi *api, const char *volume_id, DroverRestProblem *problem)
{
    DroverExportRecord *record = drover_export_book_find(api->context->exports, volume_id);
    if (!record)
        drover_rest_problem(problem, 404, "DRV-REST-EXPORT", "Volume %s has no export here", volume_id);
    return record;
}

static bool get_export(DroverRestApi *api, const char *volume_id, DroverRestReply *reply,
                       DroverRestProblem *problem)
{
    g_autoptr(DroverExportRecord) record = find_export(api, volume_id, problem);
    if (!record)
        return false;
    GArray *stats = drover_nbd_server_stat(api->server, NULL);
    drover_rest_reply_json(reply, 200, export_of(api, record, stats));
    if (stats)
        g_array_unref(stats);
    return true;
}

static void complain(json_t *problems, const char *code, const char *message)
{
    json_array_append_new(problems, json_pack("{s:s, s:s}", "code", code, "message", message));
}

/* What the journal says of an export against CloudStack, the device and the NBD server. */
static bool validate_export(DroverRestApi *api, const char *volume_id, DroverRestReply *reply,
                            DroverRestProblem *problem)
{
    g_autoptr(DroverExportRecord) record = find_export(api, volume_id, problem);
    if (!record)
        return false;
    const DroverOpContext *context = api->context;
    json_t *row = drover_rest_cloud_volume(api, volume_id, problem);
    if (!row && problem->status != 404)
        return false;
    drover_rest_problem_clear(problem);
    json_t *problems = json_array();
    if (!row)
        complain(problems, "DRV-VOLUME-MISSING", "CloudStack has no such volume");
    else if (strcmp(drover_json_text(row, "virtualmachineid"), context->appliance_vm_id) != 0)
        complain(problems, "DRV-VOLUME-ELSEWHERE",
                 "CloudStack does not have the volume attached to the appliance");
    json_decref(row);

    g_auto(DroverDevice) device = {0};
    g_autoptr(GError) error = NULL;
    if (!drover_device_find(&context->roots, volume_id, &device, &error)) {
        complain(problems, "DRV-DEVICE-MISSING",
                 error ? error->message : "The volume has no device on the appliance");
    } else {
        if (strcmp(device.path, record->device_path) != 0)
            complain(problems, "DRV-DEVICE-MOVED",
                     "The device has another name than when the export was opened");
        if (device.size_bytes != record->size_bytes)
            complain(problems, "DRV-DEVICE-SIZE",
                     "The device has another size than when the export was opened");
    }
    GArray *stats = drover_nbd_server_stat(api->server, NULL);
    json_t *export = export_of(api, record, stats);
    const json_t *counters = json_object_get(export, "counters");
    if (!stats)
        complain(problems, "DRV-REST-UNAVAILABLE", "The NBD server does not answer");
    else if (record->writable && json_is_null(counters))
        complain(problems, "DRV-EXPORT-NOT-SERVED", "The NBD server does not serve this generation");
    else if (json_is_true(json_object_get(counters, "poisoned")))
        complain(problems, "DRV-TARGET-FLUSH", "A flush failed: what was not read back is void");
    if (stats)
        g_array_unref(stats);
    if (api->job_is_stopped(api->job_data, record->job_id))
        complain(problems, "DRV-FENCED", "The job that the export belongs to was stopped");
    drover_rest_reply_json(reply, 200,
                           json_pack("{s:b, s:o, s:o}", "valid", json_array_size(problems) == 0, "problems",
                                     problems, "export", export));
    return true;
}

/* ---- the agent itself
 * --------------------------------------------------------------------------------------------- */

static bool health(DroverRestApi *api, DroverRestReply *reply)
{
    bool draining = drover_drain_requested();
    bool reachable = drover_cloudstack_is_reachable(api->context->cloud);
    bool current = atomic_load(&api->intake->current_at_ms) != 0;
    bool serves = drover_nbd_server_pid(api->server) != 0;
    const char *status = draining              ? "draining"
                         : !current            ? "starting"
                         : reachable && serves ? "ok"
                                               : "degraded";
    const char *appliance = !drover_appliance_drain_since(api->context->drain) ? "in-service"
                            : drover_rest_intake_is_current(api->intake) && drover_op_is_drained(api->context)
                                ? "drained"
                                : "draining";
    drover_rest_reply_json(reply, draining ? 503 : 200,
                           json_pack("{s:s, s:s, s:s, s:b, s:b, s:b, s:s}", "status", status, "agent",
                                     api->context->agent, "version", DROVER_VERSION, "cloudstack_reachable",
                                     reachable, "nbd_server_running", serves, "log_read", current, "appliance",
                                     appliance));
    return true;
}

bool drover_rest_answer_query(DroverRestApi *api, const DroverRestCall *call, DroverRestReply *reply,
                              DroverRestProblem *problem)
{
    switch (call->route->id) {
    case DROVER_ROUTE_HEALTH:
        return health(api, reply);
    case DROVER_ROUTE_OPENAPI:
        drover_rest_reply_text(reply, 200, "application/yaml", drover_rest_openapi());
        return true;
    case DROVER_ROUTE_METRICS:
        drover_rest_reply_text(reply, 200, "text/plain; version=0.0.4; charset=utf-8",
                               drover_rest_scrape(api));
        return true;
    case DROVER_ROUTE_GET_VOLUME:
        return get_volume(api, call->parameter, reply, problem);
    case DROVER_ROUTE_GET_DEVICE:
        return get_device(api, call->parameter, reply, problem);
    case DROVER_ROUTE_VOLUME_OF_DEVICE:
        return volume_of_device(api, call->parameter, reply, problem);
    case DROVER_ROUTE_VOLUMES_OF_VM:
        return volumes_of_vm(api, call->parameter, reply, problem);
    case DROVER_ROUTE_LIST_OPERATIONS:
        return list_operations(api, call, reply, problem);
    case DROVER_ROUTE_GET_OPERATION:
        return get_operation(api, call, reply, problem);
    case DROVER_ROUTE_LIST_SNAPSHOTS:
        return list_snapshots(api, call, reply);
    case DROVER_ROUTE_SNAPSHOTS_OF_VOLUME:
        return snapshots_of_volume(api, call->parameter, reply, problem);
    case DROVER_ROUTE_GET_SNAPSHOT:
        return get_snapshot(api, call->parameter, reply, problem);
    case DROVER_ROUTE_LIST_EXPORTS:
        return list_exports(api, reply);
    case DROVER_ROUTE_GET_EXPORT:
        return get_export(api, call->parameter, reply, problem);
    case DROVER_ROUTE_VALIDATE_EXPORT:
        return validate_export(api, call->parameter, reply, problem);
    default:
        g_assert_not_reached();
    }
}
