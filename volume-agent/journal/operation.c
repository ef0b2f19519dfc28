/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/journal/operation.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/ids.h"

void drover_set_text(char **field, const char *value)
{
    char *copy = g_strdup(value);
    g_free(*field);
    *field = copy;
}

DroverOperation *drover_operation_new(Drover__V1__VolumeOperation *asked)
{
    DroverOperation *operation = g_new0(DroverOperation, 1);
    operation->asked = asked;
    operation->state = DROVER__V1__OPERATION_STATE__OPERATION_STATE_ACCEPTED;
    return operation;
}

static void add_id(GPtrArray **ids, const char *id)
{
    if (!*ids)
        *ids = g_ptr_array_new_with_free_func(g_free);
    if (!g_ptr_array_find_with_equal_func(*ids, id, g_str_equal, NULL))
        g_ptr_array_add(*ids, g_strdup(id));
}

void drover_operation_add_volume(DroverOperation *operation, const char *volume_id)
{
    add_id(&operation->result.volume_ids, volume_id);
}

void drover_operation_add_claim(DroverOperation *operation, const char *id)
{
    add_id(&operation->claims, id);
}

static void free_finding(gpointer data)
{
    drover__v1__finding__free_unpacked(data, NULL);
}

void drover_operation_add_finding(DroverOperation *operation, const char *severity, const char *code, const char *message,
                                  int32_t disk_key)
{
    if (!operation->result.findings)
        operation->result.findings = g_ptr_array_new_with_free_func(free_finding);
    /* Freed by protobuf-c's default allocator, which is that of strdup. */
    Drover__V1__Finding *finding = calloc(1, sizeof *finding);
    drover__v1__finding__init(finding);
    finding->severity = strdup(severity);
    finding->code = strdup(code);
    finding->message = strdup(message);
    finding->disk_key = disk_key;
    g_ptr_array_add(operation->result.findings, finding);
}

static void result_clear(DroverOperationResult *r)
{
    if (r->token)
        memset(r->token, 0, strlen(r->token));
    g_free(r->volume_id);
    g_free(r->vm_id);
    g_free(r->device_path);
    g_free(r->device_serial);
    g_free(r->export_name);
    g_free(r->token);
    g_free(r->nbd_host);
    g_free(r->old_root_volume_id);
    g_free(r->vm_state);
    g_free(r->snapshot_id);
    g_free(r->report);
    if (r->volume_ids)
        g_ptr_array_unref(r->volume_ids);
    if (r->findings)
        g_ptr_array_unref(r->findings);
}

void drover_operation_free(DroverOperation *operation)
{
    if (!operation)
        return;
    drover__v1__volume_operation__free_unpacked(operation->asked, NULL);
    g_free(operation->command);
    g_free(operation->object_id);
    g_free(operation->wanted);
    g_free(operation->cloud_job_id);
    g_free(operation->error_message);
    result_clear(&operation->result);
    g_clear_pointer(&operation->claims, g_ptr_array_unref);
    g_free(operation);
}

bool drover_operation_is_ended(const DroverOperation *operation)
{
    return operation->state == DROVER__V1__OPERATION_STATE__OPERATION_STATE_DONE ||
           operation->state == DROVER__V1__OPERATION_STATE__OPERATION_STATE_FAILED;
}

const char *drover_operation_kind(const DroverOperation *operation)
{
    switch (operation->asked->operation_case) {
    case DROVER__V1__VOLUME_OPERATION__OPERATION_CREATE_VOLUME:
        return "create-volume";
    case DROVER__V1__VOLUME_OPERATION__OPERATION_ATTACH_VOLUME:
        return "attach-volume";
    case DROVER__V1__VOLUME_OPERATION__OPERATION_DETACH_VOLUME:
        return "detach-volume";
    case DROVER__V1__VOLUME_OPERATION__OPERATION_DELETE_VOLUME:
        return "delete-volume";
    case DROVER__V1__VOLUME_OPERATION__OPERATION_OPEN_EXPORT:
        return "open-export";
    case DROVER__V1__VOLUME_OPERATION__OPERATION_CLOSE_EXPORT:
        return "close-export";
    case DROVER__V1__VOLUME_OPERATION__OPERATION_DEPLOY_VM:
        return "deploy-vm";
    case DROVER__V1__VOLUME_OPERATION__OPERATION_SWAP_ROOT:
        return "swap-root";
    case DROVER__V1__VOLUME_OPERATION__OPERATION_ATTACH_TO_VM:
        return "attach-to-vm";
    case DROVER__V1__VOLUME_OPERATION__OPERATION_START_VM:
        return "start-vm";
    case DROVER__V1__VOLUME_OPERATION__OPERATION_STOP_VM:
        return "stop-vm";
    case DROVER__V1__VOLUME_OPERATION__OPERATION_DESTROY_VM:
        return "destroy-vm";
    case DROVER__V1__VOLUME_OPERATION__OPERATION_CLEANUP_TEST_FAILOVER:
        return "cleanup-test-failover";
    case DROVER__V1__VOLUME_OPERATION__OPERATION_TRACK_SNAPSHOT:
        return "track-snapshot";
    case DROVER__V1__VOLUME_OPERATION__OPERATION_UPDATE_SNAPSHOT:
        return "update-snapshot";
    case DROVER__V1__VOLUME_OPERATION__OPERATION_CLEAR_SNAPSHOTS:
        return "clear-snapshots";
    case DROVER__V1__VOLUME_OPERATION__OPERATION_REMOVE_EXPORT:
        return "remove-export";
    case DROVER__V1__VOLUME_OPERATION__OPERATION_REMOVE_ORPHAN_EXPORTS:
        return "remove-orphan-exports";
    case DROVER__V1__VOLUME_OPERATION__OPERATION_FORCE_SYNC:
        return "force-sync";
    case DROVER__V1__VOLUME_OPERATION__OPERATION_RESIZE_VOLUME:
        return "resize-volume";
    case DROVER__V1__VOLUME_OPERATION__OPERATION_CREATE_SNAPSHOT:
        return "create-snapshot";
    case DROVER__V1__VOLUME_OPERATION__OPERATION_REVERT_SNAPSHOT:
        return "revert-snapshot";
    case DROVER__V1__VOLUME_OPERATION__OPERATION_DELETE_SNAPSHOT:
        return "delete-snapshot";
    case DROVER__V1__VOLUME_OPERATION__OPERATION_PREFLIGHT_TARGET:
        return "preflight-target";
    case DROVER__V1__VOLUME_OPERATION__OPERATION_DRAIN_APPLIANCE:
        return "drain-appliance";
    default:
        return "unknown";
    }
}

const char *drover_operation_volume_id(const DroverOperation *operation)
{
    const Drover__V1__VolumeOperation *o = operation->asked;
    switch (o->operation_case) {
    case DROVER__V1__VOLUME_OPERATION__OPERATION_CREATE_VOLUME:
        return o->create_volume->custom_id;
    case DROVER__V1__VOLUME_OPERATION__OPERATION_ATTACH_VOLUME:
        return o->attach_volume->volume_id;
    case DROVER__V1__VOLUME_OPERATION__OPERATION_DETACH_VOLUME:
        return o->detach_volume->volume_id;
    case DROVER__V1__VOLUME_OPERATION__OPERATION_DELETE_VOLUME:
        return o->delete_volume->volume_id;
    case DROVER__V1__VOLUME_OPERATION__OPERATION_OPEN_EXPORT:
        return o->open_export->volume_id;
    case DROVER__V1__VOLUME_OPERATION__OPERATION_CLOSE_EXPORT:
        return o->close_export->volume_id;
    case DROVER__V1__VOLUME_OPERATION__OPERATION_SWAP_ROOT:
        return o->swap_root->volume_id;
    case DROVER__V1__VOLUME_OPERATION__OPERATION_ATTACH_TO_VM:
        return o->attach_to_vm->volume_id;
    case DROVER__V1__VOLUME_OPERATION__OPERATION_TRACK_SNAPSHOT:
        return o->track_snapshot->volume_id;
    case DROVER__V1__VOLUME_OPERATION__OPERATION_CLEAR_SNAPSHOTS:
        return o->clear_snapshots->volume_id;
    case DROVER__V1__VOLUME_OPERATION__OPERATION_REMOVE_EXPORT:
        return o->remove_export->volume_id;
    case DROVER__V1__VOLUME_OPERATION__OPERATION_RESIZE_VOLUME:
        return o->resize_volume->volume_id;
    case DROVER__V1__VOLUME_OPERATION__OPERATION_CREATE_SNAPSHOT:
        return o->create_snapshot->volume_id;
    default:
        return "";
    }
}

const char *drover_operation_vm_id(const DroverOperation *operation)
{
    const Drover__V1__VolumeOperation *o = operation->asked;
    switch (o->operation_case) {
    case DROVER__V1__VOLUME_OPERATION__OPERATION_DEPLOY_VM:
        return o->deploy_vm->custom_id;
    case DROVER__V1__VOLUME_OPERATION__OPERATION_SWAP_ROOT:
        return o->swap_root->vm_id;
    case DROVER__V1__VOLUME_OPERATION__OPERATION_ATTACH_TO_VM:
        return o->attach_to_vm->vm_id;
    case DROVER__V1__VOLUME_OPERATION__OPERATION_START_VM:
        return o->start_vm->vm_id;
    case DROVER__V1__VOLUME_OPERATION__OPERATION_STOP_VM:
        return o->stop_vm->vm_id;
    case DROVER__V1__VOLUME_OPERATION__OPERATION_DESTROY_VM:
        return o->destroy_vm->vm_id;
    case DROVER__V1__VOLUME_OPERATION__OPERATION_CLEANUP_TEST_FAILOVER:
        return o->cleanup_test_failover->vm_id;
    case DROVER__V1__VOLUME_OPERATION__OPERATION_TRACK_SNAPSHOT:
        return o->track_snapshot->vm_id;
    case DROVER__V1__VOLUME_OPERATION__OPERATION_CLEAR_SNAPSHOTS:
        return o->clear_snapshots->vm_id;
    default:
        return "";
    }
}

bool drover_operation_uses_appliance(const DroverOperation *operation)
{
    Drover__V1__VolumeOperation__OperationCase kind = operation->asked->operation_case;
    return kind == DROVER__V1__VOLUME_OPERATION__OPERATION_ATTACH_VOLUME ||
           kind == DROVER__V1__VOLUME_OPERATION__OPERATION_DETACH_VOLUME ||
           kind == DROVER__V1__VOLUME_OPERATION__OPERATION_DELETE_VOLUME ||
           kind == DROVER__V1__VOLUME_OPERATION__OPERATION_RESIZE_VOLUME ||
           kind == DROVER__V1__VOLUME_OPERATION__OPERATION_CLEANUP_TEST_FAILOVER ||
           kind == DROVER__V1__VOLUME_OPERATION__OPERATION_REMOVE_ORPHAN_EXPORTS ||
           kind == DROVER__V1__VOLUME_OPERATION__OPERATION_FORCE_SYNC;
}

static GBytes *pack(const ProtobufCMessage *message)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = g_malloc(len + 1);
    protobuf_c_message_pack(message, bytes);
    return g_bytes_new_take(bytes, len);
}

static char *text(char *value)
{
    return value ? value : (char *)"";
}

GBytes *drover_operation_pack(const DroverOperation *o, const char *agent, const char *instance_id)
{
    Drover__V1__OperationResult result = DROVER__V1__OPERATION_RESULT__INIT;
    result.volume_id = text(o->result.volume_id);
    result.vm_id = text(o->result.vm_id);
    result.device_path = text(o->result.device_path);
    result.device_serial = text(o->result.device_serial);
    result.device_size_bytes = o->result.device_size_bytes;
    result.export_name = text(o->result.export_name);
    result.generation = o->result.generation;
    result.token = text(o->result.token);
    result.nbd_host = text(o->result.nbd_host);
    result.nbd_port = o->result.nbd_port;
    result.old_root_volume_id = text(o->result.old_root_volume_id);
    result.vm_state = text(o->result.vm_state);
    result.snapshot_id = text(o->result.snapshot_id);
    result.already_done = o->result.already_done;
    result.n_volume_ids = o->result.volume_ids ? o->result.volume_ids->len : 0;
    result.volume_ids = o->result.volume_ids ? (char **)o->result.volume_ids->pdata : NULL;
    result.report = text(o->result.report);
    result.n_findings = o->result.findings ? o->result.findings->len : 0;
    result.findings = o->result.findings ? (Drover__V1__Finding **)o->result.findings->pdata : NULL;

    g_autofree char *code = drover_error_code(o->error_message);
    Drover__V1__Error error = DROVER__V1__ERROR__INIT;
    error.error_class = (Drover__V1__ErrorClass)o->error_class;
    error.code = code;
    error.message = text(o->error_message);

    Drover__V1__JournalOperation record = DROVER__V1__JOURNAL_OPERATION__INIT;
    record.agent = (char *)agent;
    record.operation = o->asked;
    record.state = o->state;
    record.step = o->step;
    record.command = text(o->command);
    record.object_id = text(o->object_id);
    record.wanted = text(o->wanted);
    record.intent_at_ms = o->intent_at_ms;
    record.intent_expires_at_ms = o->intent_expires_at_ms;
    record.cloud_job_id = text(o->cloud_job_id);
    record.result = &result;
    record.error = o->error_class ? &error : NULL;
    record.accepted_at_ms = o->accepted_at_ms;
    record.updated_at_ms = o->updated_at_ms;
    record.instance_id = (char *)instance_id;
    record.sequence = o->sequence;
    record.n_claims = o->claims ? o->claims->len : 0;
    record.claims = o->claims ? (char **)o->claims->pdata : NULL;

    Drover__V1__JournalRecord value = DROVER__V1__JOURNAL_RECORD__INIT;
    value.record_case = DROVER__V1__JOURNAL_RECORD__RECORD_OPERATION;
    value.operation = &record;
    return pack(&value.base);
}

DroverOperation *drover_operation_unpack(const Drover__V1__JournalOperation *record)
{
    if (!record->operation)
        return NULL;
    g_autoptr(GBytes) bytes = pack(&record->operation->base);
    gsize len = 0;
    const uint8_t *data = g_bytes_get_data(bytes, &len);
    DroverOperation *o = drover_operation_new(drover__v1__volume_operation__unpack(NULL, len, data));
    o->state = record->state;
    o->step = record->step;
    o->command = g_strdup(record->command);
    o->object_id = g_strdup(record->object_id);
    o->wanted = g_strdup(record->wanted);
    o->intent_at_ms = record->intent_at_ms;
    o->intent_expires_at_ms = record->intent_expires_at_ms;
    o->cloud_job_id = g_strdup(record->cloud_job_id);
    o->accepted_at_ms = record->accepted_at_ms;
    o->updated_at_ms = record->updated_at_ms;
    o->sequence = record->sequence;
    for (size_t i = 0; i < record->n_claims; i++)
        drover_operation_add_claim(o, record->claims[i]);
    if (record->error) {
        o->error_class = (int)record->error->error_class;
        o->error_message = g_strdup(record->error->message);
    }
    const Drover__V1__OperationResult *r = record->result;
    if (r) {
        o->result.volume_id = g_strdup(r->volume_id);
        o->result.vm_id = g_strdup(r->vm_id);
        o->result.device_path = g_strdup(r->device_path);
        o->result.device_serial = g_strdup(r->device_serial);
        o->result.device_size_bytes = r->device_size_bytes;
        o->result.export_name = g_strdup(r->export_name);
        o->result.generation = r->generation;
        o->result.token = g_strdup(r->token);
        o->result.nbd_host = g_strdup(r->nbd_host);
        o->result.nbd_port = r->nbd_port;
        o->result.old_root_volume_id = g_strdup(r->old_root_volume_id);
        o->result.vm_state = g_strdup(r->vm_state);
        o->result.snapshot_id = g_strdup(r->snapshot_id);
        o->result.already_done = r->already_done;
        for (size_t i = 0; i < r->n_volume_ids; i++)
            drover_operation_add_volume(o, r->volume_ids[i]);
        o->result.report = g_strdup(r->report);
        for (size_t i = 0; i < r->n_findings; i++) {
            const Drover__V1__Finding *f = r->findings[i];
            drover_operation_add_finding(o, f->severity, f->code, f->message, f->disk_key);
        }
    }
    return o;
}

DroverOperation *drover_operation_copy(const DroverOperation *operation)
{
    g_autoptr(GBytes) packed = drover_operation_pack(operation, "", "");
    gsize len = 0;
    const uint8_t *data = g_bytes_get_data(packed, &len);
    Drover__V1__JournalRecord *record = drover__v1__journal_record__unpack(NULL, len, data);
    DroverOperation *copy = drover_operation_unpack(record->operation);
    drover__v1__journal_record__free_unpacked(record, NULL);
    return copy;
}

DroverExportRecord *drover_export_record_copy(const DroverExportRecord *from)
{
    DroverExportRecord *copy = g_new0(DroverExportRecord, 1);
    *copy = *from;
    copy->volume_id = g_strdup(from->volume_id);
    copy->job_id = g_strdup(from->job_id);
    copy->disk_id = g_strdup(from->disk_id);
    copy->export_name = g_strdup(from->export_name);
    copy->token = g_strdup(from->token);
    copy->device_path = g_strdup(from->device_path);
    copy->device_serial = g_strdup(from->device_serial);
    return copy;
}

void drover_export_record_free(DroverExportRecord *record)
{
    if (!record)
        return;
    if (record->token)
        memset(record->token, 0, strlen(record->token));
    g_free(record->volume_id);
    g_free(record->job_id);
    g_free(record->disk_id);
    g_free(record->export_name);
    g_free(record->token);
    g_free(record->device_path);
    g_free(record->device_serial);
    g_free(record);
}

GBytes *drover_export_record_pack(const DroverExportRecord *record)
{
    Drover__V1__JournalExport e = DROVER__V1__JOURNAL_EXPORT__INIT;
    e.volume_id = text(record->volume_id);
    e.job_id = text(record->job_id);
    e.disk_id = text(record->disk_id);
    e.export_name = text(record->export_name);
    e.generation = record->generation;
    e.token = text(record->token);
    e.writable = record->writable;
    e.device_path = text(record->device_path);
    e.device_serial = text(record->device_serial);
    e.size_bytes = record->size_bytes;
    e.updated_at_ms = drover_now_ms();
    Drover__V1__JournalRecord value = DROVER__V1__JOURNAL_RECORD__INIT;
    value.record_case = DROVER__V1__JOURNAL_RECORD__RECORD_EXPORT;
    value.export = &e;
    return pack(&value.base);
}

DroverExportRecord *drover_export_record_unpack(const Drover__V1__JournalExport *e)
{
    const DroverExportRecord record = {e->volume_id, e->job_id,      e->disk_id,       e->export_name, e->generation,
                                       e->token,     e->writable,    e->device_path,   e->device_serial, e->size_bytes};
    return drover_export_record_copy(&record);
}

DroverSnapshotRecord *drover_snapshot_record_copy(const DroverSnapshotRecord *from)
{
    DroverSnapshotRecord *copy = g_new0(DroverSnapshotRecord, 1);
    *copy = *from;
    copy->snapshot_id = g_strdup(from->snapshot_id);
    copy->volume_id = g_strdup(from->volume_id);
    copy->vm_id = g_strdup(from->vm_id);
    copy->name = g_strdup(from->name);
    copy->status = g_strdup(from->status);
    return copy;
}

void drover_snapshot_record_free(DroverSnapshotRecord *record)
{
    if (!record)
        return;
    g_free(record->snapshot_id);
    g_free(record->volume_id);
    g_free(record->vm_id);
    g_free(record->name);
    g_free(record->status);
    g_free(record);
}

GBytes *drover_snapshot_record_pack(const DroverSnapshotRecord *record)
{
    Drover__V1__JournalSnapshot s = DROVER__V1__JOURNAL_SNAPSHOT__INIT;
    s.snapshot_id = text(record->snapshot_id);
    s.volume_id = text(record->volume_id);
    s.vm_id = text(record->vm_id);
    s.name = text(record->name);
    s.status = text(record->status);
    s.created_at_ms = record->created_at_ms;
    s.updated_at_ms = record->updated_at_ms;
    Drover__V1__JournalRecord value = DROVER__V1__JOURNAL_RECORD__INIT;
    value.record_case = DROVER__V1__JOURNAL_RECORD__RECORD_SNAPSHOT;
    value.snapshot = &s;
    return pack(&value.base);
}

DroverSnapshotRecord *drover_snapshot_record_unpack(const Drover__V1__JournalSnapshot *s)
{
    const DroverSnapshotRecord record = {s->snapshot_id, s->volume_id,     s->vm_id,        s->name,
                                         s->status,      s->created_at_ms, s->updated_at_ms};
    return drover_snapshot_record_copy(&record);
}

GBytes *drover_drain_pack(int64_t since_ms, int64_t until_ms, const char *requested_by)
{
    Drover__V1__JournalDrain drain = DROVER__V1__JOURNAL_DRAIN__INIT;
    drain.since_ms = since_ms;
    drain.until_ms = until_ms;
    drain.requested_by = (char *)requested_by;
    Drover__V1__JournalRecord value = DROVER__V1__JOURNAL_RECORD__INIT;
    value.record_case = DROVER__V1__JOURNAL_RECORD__RECORD_DRAIN;
    value.drain = &drain;
    return pack(&value.base);
}

GBytes *drover_offset_pack(int64_t next_offset)
{
    Drover__V1__JournalOffset offset = DROVER__V1__JOURNAL_OFFSET__INIT;
    offset.next_offset = next_offset;
    Drover__V1__JournalRecord value = DROVER__V1__JOURNAL_RECORD__INIT;
    value.record_case = DROVER__V1__JOURNAL_RECORD__RECORD_OFFSET;
    value.offset = &offset;
    return pack(&value.base);
}
