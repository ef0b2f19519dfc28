/* SPDX-License-Identifier: Apache-2.0 */
/* Changing requests: they look whether the request makes sense now, then put an operation into the agent's
 * log and say that it is there. Whatever happens between the look and the execution is the operation's to
 * handle. */
#include <string.h>

#include "drover/v1/task.pb-c.h"
#include "lib/base/drain.h"
#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "lib/base/log.h"
#include "volume-agent/reconcile/audit.h"
#include "volume-agent/rest/api.h"

#define SEND_MS 10000
#define ACCEPT_MS 5000

/* ---- does it make sense?
 * ----------------------------------------------------------------------------------------- */

/* While CloudStack is away a request is taken as it is: the operation waits for CloudStack, and will see. */
static bool forgive_outage(DroverRestProblem *problem)
{
    if (problem->status < 500)
        return false;
    drover_rest_problem_clear(problem);
    return true;
}

/* *ROW: CloudStack's, a new reference; NULL when the volume is yet to be made, or CloudStack is away. */
static bool check_volume(DroverRestApi *api, const char *volume_id, json_t **row, DroverRestProblem *problem)
{
    *row = NULL;
    if (drover_rest_view_is_coming(api->view, volume_id))
        return true;
    *row = drover_rest_cloud_volume(api, volume_id, problem);
    return *row || forgive_outage(problem);
}

static bool check_vm(DroverRestApi *api, const char *vm_id, DroverRestProblem *problem)
{
    return drover_rest_cloud_has_vm(api, vm_id, problem) || forgive_outage(problem);
}

/* Where nothing is under way on the volume, what CloudStack says of its place is final: moving it takes a
 * detach first. */
static bool check_place(DroverRestApi *api, const json_t *row, const char *volume_id, const char *vm_id,
                        DroverRestProblem *problem)
{
    const char *where = row ? drover_json_text(row, "virtualmachineid") : "";
    json_t *open = drover_rest_view_open_on(api->view, volume_id);
    bool settled = json_array_size(open) == 0;
    json_decref(open);
    if (!*where || strcmp(where, vm_id) == 0 || !settled)
        return true;
    drover_rest_problem(problem, 409, "DRV-VOLUME-ELSEWHERE",
                        "Volume %s is attached to VM %s; detach it first", volume_id, where);
    return drover_rest_problem_detail(problem, "vm_id", where);
}

static bool check_attach(DroverRestApi *api, const DroverRestCall *call, const json_t *body,
                         DroverRestProblem *problem)
{
    const char *vm_id = drover_rest_text(body, "vm_id");
    json_t *row = NULL;
    bool ok = check_volume(api, call->parameter, &row, problem) &&
              (!*vm_id || check_vm(api, vm_id, problem)) &&
              check_place(api, row, call->parameter, *vm_id ? vm_id : api->context->appliance_vm_id, problem);
    json_decref(row);
    return ok;
}

/* Another job's export is not cut off by accident. */
static bool check_export(DroverRestApi *api, const json_t *body, DroverRestProblem *problem)
{
    const char *volume_id = drover_rest_text(body, "volume_id");
    uint64_t generation = drover_rest_number(body, "generation");
    json_t *row = NULL;
    bool ok = check_volume(api, volume_id, &row, problem);
    json_decref(row);
    g_autoptr(DroverExportRecord) known =
        ok ? drover_export_book_find(api->context->exports, volume_id) : NULL;
    if (!known)
        return ok;
    if (generation > 0 &&
        (generation < known->generation || (generation == known->generation && !known->writable)))
        return drover_rest_problem(problem, 409, "DRV-FENCED",
                                   "Generation %" G_GUINT64_FORMAT
                                   " of volume %s is over, the newest is %" G_GUINT64_FORMAT,
                                   generation, volume_id, known->generation);
    if (generation == 0 && known->writable) {
        drover_rest_problem(
            problem, 409, "DRV-REST-EXPORT-OPEN",
            "Volume %s has an open export, of job %s; name a 'generation' above %" G_GUINT64_FORMAT
            " to cut its writers off",
            volume_id, known->job_id, known->generation);
        return drover_rest_problem_detail(problem, "job_id", known->job_id);
    }
    return true;
}

static bool check_snapshot(DroverRestApi *api, const char *snapshot_id, DroverRestProblem *problem)
{
    g_autoptr(DroverSnapshotRecord) known = drover_snapshot_book_find(api->context->snapshots, snapshot_id);
    return known || drover_rest_problem(problem, 404, "DRV-SNAPSHOT-MISSING",
                                        "Snapshot %s is not tracked by this agent", snapshot_id);
}

static bool check_tracked(DroverRestApi *api, const json_t *body, DroverRestProblem *problem)
{
    const char *id = drover_rest_text(body, "snapshot_id"), *volume_id = drover_rest_text(body, "volume_id");
    const char *const parameters[] = {"id", id, "listall", "true", NULL};
    json_t *rows = drover_rest_cloud_list(api, "listSnapshots", "snapshot", parameters, problem);
    if (!rows)
        return forgive_outage(problem);
    const json_t *row = json_array_get(rows, 0);
    bool exists = row != NULL, fits = exists && strcmp(drover_json_text(row, "volumeid"), volume_id) == 0;
    json_decref(rows);
    if (!exists)
        return drover_rest_problem(problem, 404, "DRV-SNAPSHOT-MISSING", "CloudStack has no snapshot %s", id);
    return fits || drover_rest_problem(problem, 409, "DRV-SNAPSHOT-MISSING",
                                       "Snapshot %s is not one of volume %s", id, volume_id);
}

static bool check_cleanup(DroverRestApi *api, const json_t *body, DroverRestProblem *problem)
{
    const char *vm_id = drover_rest_text(body, "vm_id");
    if (strcmp(vm_id, api->context->appliance_vm_id) == 0)
        return drover_rest_problem(problem, 409, "DRV-APPLIANCE",
                                   "%s is the VM of this agent, not of a test failover", vm_id);
    return check_vm(api, vm_id, problem);
}

static bool makes_sense(DroverRestApi *api, const DroverRestCall *call, const json_t *body,
                        DroverRestProblem *problem)
{
    json_t *row = NULL;
    bool ok = true;
    switch (call->route->id) {
    case DROVER_ROUTE_ATTACH_VOLUME:
    case DROVER_ROUTE_ATTACH_ROOT:
        return check_attach(api, call, body, problem);
    case DROVER_ROUTE_DETACH_VOLUME:
    case DROVER_ROUTE_RESIZE_VOLUME:
    case DROVER_ROUTE_DELETE_VOLUME:
        ok = check_volume(api, call->parameter, &row, problem);
        json_decref(row);
        return ok;
    case DROVER_ROUTE_CREATE_EXPORT:
        return check_export(api, body, problem);
    case DROVER_ROUTE_DELETE_EXPORT: {
        g_autoptr(DroverExportRecord) known = drover_export_book_find(api->context->exports, call->parameter);
        return known || drover_rest_problem(problem, 404, "DRV-REST-EXPORT", "Volume %s has no export here",
                                            call->parameter);
    }
    case DROVER_ROUTE_TRACK_SNAPSHOT:
        return check_tracked(api, body, problem);
    case DROVER_ROUTE_CREATE_SNAPSHOT:
        ok = check_volume(api, drover_rest_text(body, "volume_id"), &row, problem);
        json_decref(row);
        return ok;
    case DROVER_ROUTE_UPDATE_SNAPSHOT:
    case DROVER_ROUTE_REVERT_SNAPSHOT:
    case DROVER_ROUTE_DELETE_SNAPSHOT:
    case DROVER_ROUTE_CLEAR_SNAPSHOT:
        return check_snapshot(api, call->parameter, problem);
    case DROVER_ROUTE_CLEANUP_TEST_FAILOVER:
        return check_cleanup(api, body, problem);
    default:
        return true;
    }
}

/* ---- into the log
 * ------------------------------------------------------------------------------------------------- */

static bool send(DroverRestApi *api, Drover__V1__VolumeOperation *operation, DroverRestProblem *problem)
{
    g_autofree char *topic = g_strconcat("drover.tasks.", api->context->agent, NULL);
    Drover__V1__Task task = DROVER__V1__TASK__INIT;
    task.task_id = operation->operation_id;
    task.job_id = operation->job_id;
    task.disk_id = operation->disk_id;
    task.attempt = 1;
    task.created_at_ms = operation->requested_at_ms;
    task.assigned_to = (char *)api->context->agent;
    task.body_case = DROVER__V1__TASK__BODY_OPERATION;
    task.operation = operation;
    g_autoptr(GError) error = NULL;
    if (drover_producer_send_sync(api->producer, topic, DROVER_PARTITION_BY_KEY, operation->job_id,
                                  &task.base, SEND_MS, &error))
        return true;
    drover_rest_view_withdraw(api->view, operation->operation_id);
    drover_rest_problem(problem, 503, "DRV-REST-LOG",
                        "The agent's log did not take the request in time; it may still arrive. Repeat it "
                        "with the same operation_id: %s",
                        error->message);
    return drover_rest_problem_detail(problem, "operation_id", operation->operation_id);
}

static Drover__V1__VolumeOperation *draft(DroverRestApi *api, const DroverRestCall *call, const json_t *body,
                                          const char *operation_id, DroverRestProblem *problem)
{
    g_autofree char *volume_id = drover_rest_query(call, "volume_id");
    g_autofree char *vm_id = drover_rest_query(call, "vm_id");
    DroverRestRequest request = {.route = call->route,
                                 .parameter = call->parameter,
                                 .operation_id = operation_id,
                                 .agent = api->context->agent,
                                 .caller = call->caller,
                                 .now_ms = drover_now_ms(),
                                 .body = body,
                                 .volume_id = volume_id,
                                 .vm_id = vm_id};
    if (call->route->id == DROVER_ROUTE_CREATE_EXPORT) {
        /* Asked again, it is the same generation; else one above all that were ever asked for. */
        const char *exported = drover_rest_text(body, "volume_id");
        g_autoptr(DroverExportRecord) known = drover_export_book_find(api->context->exports, exported);
        uint64_t highest =
            MAX(drover_rest_view_generation(api->view, exported), known ? known->generation : 0);
        uint64_t before = drover_rest_view_generation_of(api->view, operation_id);
        request.next_generation = before ? before : highest + 1;
    }
    return drover_rest_operation_of(&request, problem);
}

/* Who asked for what. The kind names the change; what became of it is in the journal under the operation's id. */
static void audit(DroverRestApi *api, const DroverRestCall *call, const Drover__V1__VolumeOperation *asked)
{
    const DroverOperation operation = {.asked = (Drover__V1__VolumeOperation *)asked};
    const DroverAuditField fields[] = {{"requested_by", asked->requested_by},
                                       {"request_id", call->request_id},
                                       {"operation_id", asked->operation_id},
                                       {"kind", drover_operation_kind(&operation)},
                                       {"volume_id", drover_operation_volume_id(&operation)},
                                       {"vm_id", drover_operation_vm_id(&operation)},
                                       {"remote", call->remote},
                                       {NULL, NULL}};
    g_autofree char *message =
        g_strdup_printf("%s asked for %s", asked->requested_by, drover_operation_kind(&operation));
    drover_agent_audit(api->producer, api->context->agent, asked->job_id, "info", "rest.change", message,
                       fields);
}

static bool submit(DroverRestApi *api, const DroverRestCall *call, const json_t *body,
                   Drover__V1__VolumeOperation *operation, DroverRestProblem *problem)
{
    json_t *known = drover_rest_view_operation(api->view, operation->operation_id, NULL);
    bool is_new = !known;
    json_decref(known);
    /* What was accepted once is answered for ever, whatever has become of the volume since. */
    if (is_new && !makes_sense(api, call, body, problem))
        return false;
    switch (drover_rest_view_submit(api->view, operation)) {
    case DROVER_REST_KNOWN:
        return true;
    case DROVER_REST_DIFFERENT:
        drover_rest_problem(problem, 409, "DRV-REST-ID-USED",
                            "Operation id %s stands for a different request already",
                            operation->operation_id);
        return drover_rest_problem_detail(problem, "operation_id", operation->operation_id);
    case DROVER_REST_NEW:
    default:
        break;
    }
    if (!send(api, operation, problem))
        return false;
    audit(api, call, operation);
    drover_info("rest.submitted", "A request became an operation",
                F_S("operation_id", operation->operation_id), F_S("requested_by", operation->requested_by),
                F_S("request_id", call->request_id));
    return true;
}

bool drover_rest_submit_change(DroverRestApi *api, const DroverRestCall *call, const json_t *body,
                               DroverRestReply *reply, DroverRestProblem *problem)
{
    int64_t wait_ms = 0;
    g_autofree char *asked_id = drover_rest_query(call, "operation_id");
    g_autofree char *operation_id = *asked_id ? g_strdup(asked_id) : drover_id_new("rest-");
    if (!drover_rest_wait_of(call, &wait_ms, problem))
        return false;
    if (drover_drain_requested())
        return drover_rest_problem(problem, 503, "DRV-REST-DRAINING", "The agent is stopping");
    /* Until then it cannot tell whether an id was used before. */
    if (atomic_load(&api->intake->current_at_ms) == 0)
        return drover_rest_problem(problem, 503, "DRV-REST-STARTING",
                                   "The agent has just started and is still reading its log; ask again");
    Drover__V1__VolumeOperation *operation = draft(api, call, body, operation_id, problem);
    bool ok = operation && submit(api, call, body, operation, problem);
    if (operation)
        drover__v1__volume_operation__free_unpacked(operation, NULL);
    if (!ok)
        return false;
    drover_rest_view_wait(api->view, operation_id, false, ACCEPT_MS, drover_drain_requested);
    drover_rest_wait(api, operation_id, wait_ms);
    return drover_rest_reply_operation(api, operation_id, reply, problem);
}
