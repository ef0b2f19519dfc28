/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/rest/request.h"

#include <string.h>

#include "lib/base/ids.h"
#include "volume-agent/rest/preflight.h"

#define LARGEST_VOLUME (INT64_C(1) << 50)
#define JOB                                                                                                  \
    {"job_id", DROVER_FIELD_NAME},                                                                           \
    {                                                                                                        \
        "disk_id", DROVER_FIELD_NAME                                                                         \
    }

static const DroverRestField no_fields[] = {{0}};
static const DroverRestField job_fields[] = {JOB, {0}};
static const DroverRestField create_fields[] = {
    {"name", DROVER_FIELD_TEXT, .required = true, .limit = 255},
    {"size_bytes", DROVER_FIELD_NUMBER, .required = true, .minimum = 1, .limit = LARGEST_VOLUME},
    {"disk_offering", DROVER_FIELD_TEXT, .limit = 255},
    {"zone", DROVER_FIELD_TEXT, .limit = 255},
    {"snapshot_id", DROVER_FIELD_UUID},
    JOB,
    {0},
};
static const DroverRestField snapshot_fields[] = {
    {"volume_id", DROVER_FIELD_UUID, .required = true},
    {"vm_id", DROVER_FIELD_UUID},
    {"name", DROVER_FIELD_TEXT, .limit = 100},
    {0},
};
static const DroverRestField attach_fields[] = {
    {"vm_id", DROVER_FIELD_UUID},
    {"device_id", DROVER_FIELD_NUMBER, .minimum = 1, .limit = 255},
    {"minimum_size_bytes", DROVER_FIELD_NUMBER, .minimum = 1, .limit = LARGEST_VOLUME},
    JOB,
    {0},
};
static const DroverRestField resize_fields[] = {
    {"size_bytes", DROVER_FIELD_NUMBER, .required = true, .minimum = 1, .limit = LARGEST_VOLUME},
    JOB,
    {0},
};
static const DroverRestField root_fields[] = {{"vm_id", DROVER_FIELD_UUID, .required = true}, JOB, {0}};
static const DroverRestField cleanup_fields[] = {
    {"vm_id", DROVER_FIELD_UUID, .required = true}, {"revert", DROVER_FIELD_FLAG}, {"job_id", DROVER_FIELD_NAME}, {0}};
static const DroverRestField track_fields[] = {
    {"snapshot_id", DROVER_FIELD_UUID, .required = true},
    {"volume_id", DROVER_FIELD_UUID, .required = true},
    {"vm_id", DROVER_FIELD_UUID},
    {"name", DROVER_FIELD_TEXT, .limit = 255},
    {"status", DROVER_FIELD_TEXT, .limit = 64},
    {0},
};
static const DroverRestField update_fields[] = {
    {"name", DROVER_FIELD_TEXT, .limit = 255}, {"status", DROVER_FIELD_TEXT, .limit = 64}, {0}};
static const DroverRestField export_fields[] = {
    {"volume_id", DROVER_FIELD_UUID, .required = true},
    {"generation", DROVER_FIELD_NUMBER, .minimum = 1, .limit = INT64_MAX},
    {"minimum_size_bytes", DROVER_FIELD_NUMBER, .minimum = 1, .limit = LARGEST_VOLUME},
    JOB,
    {0},
};
static const DroverRestField sync_fields[] = {{"repair", DROVER_FIELD_FLAG}, {0}};

const DroverRestField *drover_rest_fields_of(DroverRestRouteId route)
{
    switch (route) {
    case DROVER_ROUTE_CREATE_VOLUME:
        return create_fields;
    case DROVER_ROUTE_ATTACH_VOLUME:
        return attach_fields;
    case DROVER_ROUTE_ATTACH_ROOT:
        return root_fields;
    case DROVER_ROUTE_DETACH_VOLUME:
        return job_fields;
    case DROVER_ROUTE_RESIZE_VOLUME:
        return resize_fields;
    case DROVER_ROUTE_CLEANUP_TEST_FAILOVER:
        return cleanup_fields;
    case DROVER_ROUTE_TRACK_SNAPSHOT:
        return track_fields;
    case DROVER_ROUTE_CREATE_SNAPSHOT:
        return snapshot_fields;
    case DROVER_ROUTE_UPDATE_SNAPSHOT:
        return update_fields;
    case DROVER_ROUTE_CREATE_EXPORT:
        return export_fields;
    case DROVER_ROUTE_FORCE_SYNC:
        return sync_fields;
    case DROVER_ROUTE_PREFLIGHT:
        return drover_rest_preflight_fields;
    default:
        return no_fields;
    }
}

/* ---- building
 * --------------------------------------------------------------------------------------------------- */

/* All kinds at once, so that one of them can be pointed to; texts are borrowed until the operation is packed.
 */
typedef struct {
    Drover__V1__VolumeOperation operation;
    union {
        Drover__V1__CreateVolume create;
        Drover__V1__AttachVolume attach;
        Drover__V1__AttachToVm attach_to_vm;
        Drover__V1__SwapRoot swap;
        Drover__V1__DetachVolume detach;
        Drover__V1__ResizeVolume resize;
        Drover__V1__DeleteVolume delete_;
        Drover__V1__CleanupTestFailover cleanup;
        Drover__V1__TrackSnapshot track;
        Drover__V1__CreateSnapshot create_snapshot;
        Drover__V1__RevertSnapshot revert_snapshot;
        Drover__V1__DeleteSnapshot delete_snapshot;
        Drover__V1__UpdateSnapshot update;
        Drover__V1__ClearSnapshots clear;
        Drover__V1__OpenExport open;
        Drover__V1__RemoveExport remove;
        Drover__V1__RemoveOrphanExports orphans;
        Drover__V1__ForceSync sync;
    } u;
    char *made; /* owned */
} Draft;

#define KIND(draft, UPPER, lower)                                                                            \
    ((draft)->operation.operation_case = DROVER__V1__VOLUME_OPERATION__OPERATION_##UPPER,                    \
     (draft)->operation.lower = (void *)&(draft)->u)

static char *field(const DroverRestRequest *request, const char *name)
{
    return (char *)drover_rest_text(request->body, name);
}

static void draft_attach(Draft *draft, const DroverRestRequest *request)
{
    if (*field(request, "vm_id")) {
        drover__v1__attach_to_vm__init(&draft->u.attach_to_vm);
        KIND(draft, ATTACH_TO_VM, attach_to_vm);
        draft->u.attach_to_vm.volume_id = (char *)request->parameter;
        draft->u.attach_to_vm.vm_id = field(request, "vm_id");
        draft->u.attach_to_vm.device_id = (uint32_t)drover_rest_number(request->body, "device_id");
        return;
    }
    drover__v1__attach_volume__init(&draft->u.attach);
    KIND(draft, ATTACH_VOLUME, attach_volume);
    draft->u.attach.volume_id = (char *)request->parameter;
    draft->u.attach.minimum_size_bytes = drover_rest_number(request->body, "minimum_size_bytes");
}

static void draft_volume(Draft *draft, const DroverRestRequest *request)
{
    switch (request->route->id) {
    case DROVER_ROUTE_CREATE_VOLUME:
        drover__v1__create_volume__init(&draft->u.create);
        KIND(draft, CREATE_VOLUME, create_volume);
        draft->u.create.name = field(request, "name");
        draft->u.create.size_bytes = drover_rest_number(request->body, "size_bytes");
        draft->u.create.disk_offering = field(request, "disk_offering");
        draft->u.create.zone = field(request, "zone");
        draft->u.create.snapshot_id = field(request, "snapshot_id");
        draft->made = g_strdup_printf("rest/%s/%s", request->agent, request->operation_id);
        char *custom_id = drover_uuid_from(draft->made);
        g_free(draft->made);
        draft->made = draft->u.create.custom_id = custom_id;
        break;
    case DROVER_ROUTE_ATTACH_VOLUME:
        draft_attach(draft, request);
        break;
    case DROVER_ROUTE_ATTACH_ROOT:
        drover__v1__swap_root__init(&draft->u.swap);
        KIND(draft, SWAP_ROOT, swap_root);
        draft->u.swap.volume_id = (char *)request->parameter;
        draft->u.swap.vm_id = field(request, "vm_id");
        break;
    case DROVER_ROUTE_DETACH_VOLUME:
        drover__v1__detach_volume__init(&draft->u.detach);
        KIND(draft, DETACH_VOLUME, detach_volume);
        draft->u.detach.volume_id = (char *)request->parameter;
        break;
    case DROVER_ROUTE_RESIZE_VOLUME:
        drover__v1__resize_volume__init(&draft->u.resize);
        KIND(draft, RESIZE_VOLUME, resize_volume);
        draft->u.resize.volume_id = (char *)request->parameter;
        draft->u.resize.size_bytes = drover_rest_number(request->body, "size_bytes");
        break;
    case DROVER_ROUTE_DELETE_VOLUME:
        drover__v1__delete_volume__init(&draft->u.delete_);
        KIND(draft, DELETE_VOLUME, delete_volume);
        draft->u.delete_.volume_id = (char *)request->parameter;
        break;
    default:
        break;
    }
}

static void draft_snapshot(Draft *draft, const DroverRestRequest *request)
{
    switch (request->route->id) {
    case DROVER_ROUTE_TRACK_SNAPSHOT:
        drover__v1__track_snapshot__init(&draft->u.track);
        KIND(draft, TRACK_SNAPSHOT, track_snapshot);
        draft->u.track.snapshot_id = field(request, "snapshot_id");
        draft->u.track.volume_id = field(request, "volume_id");
        draft->u.track.vm_id = field(request, "vm_id");
        draft->u.track.name = field(request, "name");
        draft->u.track.status = *field(request, "status") ? field(request, "status") : (char *)"tracked";
        break;
    case DROVER_ROUTE_CREATE_SNAPSHOT:
        drover__v1__create_snapshot__init(&draft->u.create_snapshot);
        KIND(draft, CREATE_SNAPSHOT, create_snapshot);
        draft->u.create_snapshot.volume_id = field(request, "volume_id");
        draft->u.create_snapshot.vm_id = field(request, "vm_id");
        draft->u.create_snapshot.name = field(request, "name");
        break;
    case DROVER_ROUTE_REVERT_SNAPSHOT:
        drover__v1__revert_snapshot__init(&draft->u.revert_snapshot);
        KIND(draft, REVERT_SNAPSHOT, revert_snapshot);
        draft->u.revert_snapshot.snapshot_id = (char *)request->parameter;
        break;
    case DROVER_ROUTE_DELETE_SNAPSHOT:
        drover__v1__delete_snapshot__init(&draft->u.delete_snapshot);
        KIND(draft, DELETE_SNAPSHOT, delete_snapshot);
        draft->u.delete_snapshot.snapshot_id = (char *)request->parameter;
        break;
    case DROVER_ROUTE_UPDATE_SNAPSHOT:
        drover__v1__update_snapshot__init(&draft->u.update);
        KIND(draft, UPDATE_SNAPSHOT, update_snapshot);
        draft->u.update.snapshot_id = (char *)request->parameter;
        draft->u.update.name = field(request, "name");
        draft->u.update.status = field(request, "status");
        break;
    case DROVER_ROUTE_CLEAR_SNAPSHOT:
    case DROVER_ROUTE_CLEAR_SNAPSHOTS:
        drover__v1__clear_snapshots__init(&draft->u.clear);
        KIND(draft, CLEAR_SNAPSHOTS, clear_snapshots);
        draft->u.clear.snapshot_id = (char *)(request->parameter ? request->parameter : "");
        draft->u.clear.volume_id = (char *)request->volume_id;
        draft->u.clear.vm_id = (char *)request->vm_id;
        break;
    default:
        break;
    }
}

static void draft_other(Draft *draft, const DroverRestRequest *request)
{
    switch (request->route->id) {
    case DROVER_ROUTE_CLEANUP_TEST_FAILOVER:
        drover__v1__cleanup_test_failover__init(&draft->u.cleanup);
        KIND(draft, CLEANUP_TEST_FAILOVER, cleanup_test_failover);
        draft->u.cleanup.vm_id = field(request, "vm_id");
        draft->u.cleanup.revert = drover_rest_flag(request->body, "revert");
        break;
    case DROVER_ROUTE_CREATE_EXPORT:
        drover__v1__open_export__init(&draft->u.open);
        KIND(draft, OPEN_EXPORT, open_export);
        draft->u.open.volume_id = field(request, "volume_id");
        draft->u.open.generation = drover_rest_number(request->body, "generation");
        if (draft->u.open.generation == 0)
            draft->u.open.generation = request->next_generation;
        draft->u.open.minimum_size_bytes = drover_rest_number(request->body, "minimum_size_bytes");
        break;
    case DROVER_ROUTE_DELETE_EXPORT:
        drover__v1__remove_export__init(&draft->u.remove);
        KIND(draft, REMOVE_EXPORT, remove_export);
        draft->u.remove.volume_id = (char *)request->parameter;
        break;
    case DROVER_ROUTE_CLEAN_EXPORTS:
        drover__v1__remove_orphan_exports__init(&draft->u.orphans);
        KIND(draft, REMOVE_ORPHAN_EXPORTS, remove_orphan_exports);
        break;
    case DROVER_ROUTE_FORCE_SYNC:
        drover__v1__force_sync__init(&draft->u.sync);
        KIND(draft, FORCE_SYNC, force_sync);
        draft->u.sync.repair = drover_rest_flag(request->body, "repair");
        break;
    default:
        break;
    }
}

static bool check(const DroverRestRequest *request, DroverRestProblem *problem)
{
    DroverRestRouteId id = request->route->id;
    const json_t *body = request->body;
    const char *wrong = NULL, *about = "";
    if (id == DROVER_ROUTE_ATTACH_VOLUME && *drover_rest_text(body, "vm_id") &&
        !drover_rest_number(body, "device_id")) {
        about = "device_id";
        wrong = "Field 'device_id' is needed with 'vm_id': CloudStack's device id, 1 or more; a root disk is "
                "attached by attach-root";
    } else if (id == DROVER_ROUTE_ATTACH_VOLUME && !*drover_rest_text(body, "vm_id") &&
               drover_rest_number(body, "device_id")) {
        about = "device_id";
        wrong = "Field 'device_id' is for a VM; without 'vm_id' the volume goes to the appliance, where it "
                "is known by its serial";
    } else if (id == DROVER_ROUTE_ATTACH_VOLUME && *drover_rest_text(body, "vm_id") &&
               drover_rest_number(body, "minimum_size_bytes")) {
        about = "minimum_size_bytes";
        wrong = "Field 'minimum_size_bytes' is about the device on the appliance; it goes not with 'vm_id'";
    } else if (id == DROVER_ROUTE_CREATE_VOLUME && *drover_rest_text(body, "snapshot_id") &&
               (*drover_rest_text(body, "zone") || *drover_rest_text(body, "disk_offering"))) {
        about = "snapshot_id";
        wrong = "Field 'snapshot_id' goes not with 'zone' and 'disk_offering': these are the snapshot's";
    } else if (id == DROVER_ROUTE_UPDATE_SNAPSHOT && json_object_size(body) == 0) {
        about = "status";
        wrong = "Nothing to update: give 'status', 'name' or both";
    } else if (id == DROVER_ROUTE_CLEAR_SNAPSHOTS &&
               (*request->volume_id != '\0') == (*request->vm_id != '\0')) {
        about = "volume_id";
        wrong = "Give exactly one of the query parameters 'volume_id' and 'vm_id'";
    }
    if (!wrong)
        return true;
    drover_rest_problem(problem, 400, "DRV-REST-REQUEST", "%s", wrong);
    return drover_rest_problem_detail(problem, "field", about);
}

/* Operations of one job follow each other; by default those of a client have nothing to do with each other
 * unless they meet at a volume or VM. Requests about snapshots name only snapshots, so they are kept in order
 * among themselves. */
static const char *job_of(const DroverRestRequest *request)
{
    switch (request->route->id) {
    case DROVER_ROUTE_TRACK_SNAPSHOT:
    case DROVER_ROUTE_UPDATE_SNAPSHOT:
    case DROVER_ROUTE_REVERT_SNAPSHOT:
    case DROVER_ROUTE_DELETE_SNAPSHOT:
    case DROVER_ROUTE_CLEAR_SNAPSHOT:
    case DROVER_ROUTE_CLEAR_SNAPSHOTS:
        return "rest-snapshots";
    default:
        return *field(request, "job_id") ? field(request, "job_id") : request->operation_id;
    }
}

static Drover__V1__VolumeOperation *copy_of(const Drover__V1__VolumeOperation *from)
{
    size_t len = drover__v1__volume_operation__get_packed_size(from);
    g_autofree uint8_t *bytes = g_malloc(len + 1);
    drover__v1__volume_operation__pack(from, bytes);
    return drover__v1__volume_operation__unpack(NULL, len, bytes);
}

Drover__V1__VolumeOperation *drover_rest_operation_of(const DroverRestRequest *request,
                                                      DroverRestProblem *problem)
{
    if (!check(request, problem))
        return NULL;
    g_autofree char *caller = g_strconcat("rest/", request->caller, NULL);
    Draft draft = {.operation = DROVER__V1__VOLUME_OPERATION__INIT};
    draft.operation.operation_id = (char *)request->operation_id;
    draft.operation.job_id = (char *)job_of(request);
    draft.operation.disk_id = field(request, "disk_id");
    draft.operation.requested_at_ms = request->now_ms;
    draft.operation.requested_by = caller;
    draft_volume(&draft, request);
    draft_snapshot(&draft, request);
    draft_other(&draft, request);
    g_assert(draft.operation.operation_case != DROVER__V1__VOLUME_OPERATION__OPERATION__NOT_SET);
    Drover__V1__VolumeOperation *operation = copy_of(&draft.operation);
    g_free(draft.made);
    return operation;
}

static GBytes *essence(const Drover__V1__VolumeOperation *operation)
{
    Drover__V1__VolumeOperation bare = *operation;
    bare.requested_at_ms = 0;
    bare.requested_by = (char *)"";
    size_t len = drover__v1__volume_operation__get_packed_size(&bare);
    uint8_t *bytes = g_malloc(len + 1);
    drover__v1__volume_operation__pack(&bare, bytes);
    return g_bytes_new_take(bytes, len);
}

bool drover_rest_same_operation(const Drover__V1__VolumeOperation *a, const Drover__V1__VolumeOperation *b)
{
    g_autoptr(GBytes) x = essence(a);
    g_autoptr(GBytes) y = essence(b);
    return g_bytes_equal(x, y);
}
