/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/rest/record.h"

#include <string.h>

#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "lib/base/log.h"
#include "volume-agent/cloudstack/client.h"

static void set(json_t *json, const char *name, const char *value)
{
    json_object_set_new(json, name, value && *value ? json_string(value) : json_null());
}

static void set_number(json_t *json, const char *name, uint64_t value)
{
    json_object_set_new(json, name, json_integer((json_int_t)value));
}

static void set_flag(json_t *json, const char *name, bool value)
{
    json_object_set_new(json, name, json_boolean(value));
}

static void set_time(json_t *json, const char *name, int64_t unix_ms)
{
    g_autofree char *text = unix_ms > 0 ? drover_iso8601(unix_ms) : NULL;
    set(json, name, text);
}

const char *drover_rest_state(const DroverOperation *operation, bool submitted)
{
    if (submitted)
        return "submitted";
    switch (operation->state) {
    case DROVER__V1__OPERATION_STATE__OPERATION_STATE_DONE:
        return "done";
    case DROVER__V1__OPERATION_STATE__OPERATION_STATE_FAILED:
        return "failed";
    case DROVER__V1__OPERATION_STATE__OPERATION_STATE_INTENT:
    case DROVER__V1__OPERATION_STATE__OPERATION_STATE_WAITING:
        return "running";
    default:
        return "accepted";
    }
}

json_t *drover_rest_finding_json(const char *severity, const char *code, const char *message, int32_t disk_key)
{
    json_t *json = json_object();
    set(json, "severity", severity);
    set(json, "code", code);
    set(json, "message", message);
    json_object_set_new(json, "disk_key", disk_key ? json_integer(disk_key) : json_null());
    return json;
}

static json_t *result_json(const DroverOperationResult *r)
{
    json_t *json = json_object();
    set(json, "volume_id", r->volume_id);
    set(json, "vm_id", r->vm_id);
    set(json, "device_path", r->device_path);
    set(json, "device_serial", r->device_serial);
    set(json, "export_name", r->export_name);
    set(json, "nbd_host", r->nbd_host);
    set(json, "old_root_volume_id", r->old_root_volume_id);
    set(json, "vm_state", r->vm_state);
    set(json, "snapshot_id", r->snapshot_id);
    set_number(json, "device_size_bytes", r->device_size_bytes);
    set_number(json, "generation", r->generation);
    set_number(json, "nbd_port", r->nbd_port);
    set_flag(json, "already_done", r->already_done);
    json_t *ids = json_array();
    for (guint i = 0; r->volume_ids && i < r->volume_ids->len; i++)
        json_array_append_new(ids, json_string(g_ptr_array_index(r->volume_ids, i)));
    json_object_set_new(json, "volume_ids", ids);
    json_t *report = r->report && *r->report ? json_loads(r->report, 0, NULL) : NULL;
    json_object_set_new(json, "report", report ? report : json_null());
    json_t *findings = json_array();
    for (guint i = 0; r->findings && i < r->findings->len; i++) {
        const Drover__V1__Finding *f = g_ptr_array_index(r->findings, i);
        json_array_append_new(findings, drover_rest_finding_json(f->severity, f->code, f->message, f->disk_key));
    }
    json_object_set_new(json, "findings", findings);
    return json;
}

static json_t *error_json(const DroverOperation *operation)
{
    if (operation->state != DROVER__V1__OPERATION_STATE__OPERATION_STATE_FAILED)
        return json_null();
    g_autofree char *code = drover_error_code(operation->error_message);
    g_autofree char *message = drover_redact(operation->error_message ? operation->error_message : "");
    json_t *json = json_object();
    set(json, "code", code);
    set(json, "message", message);
    set(json, "class",
        operation->error_class ? drover_error_class_name((DroverErrorClass)operation->error_class) : NULL);
    return json;
}

json_t *drover_rest_operation_json(const DroverOperation *operation, bool submitted)
{
    const Drover__V1__VolumeOperation *asked = operation->asked;
    bool ended = !submitted && drover_operation_is_ended(operation);
    json_t *json = json_object(), *links = json_object();
    set(json, "id", asked->operation_id);
    set(json, "kind", drover_operation_kind(operation));
    set(json, "state", drover_rest_state(operation, submitted));
    set(json, "job_id", asked->job_id);
    set(json, "disk_id", asked->disk_id);
    set(json, "volume_id", drover_operation_volume_id(operation));
    set(json, "vm_id", drover_operation_vm_id(operation));
    set(json, "requested_by", asked->requested_by);
    set_flag(json, "undo", asked->undo);
    set_number(json, "steps_done", operation->step);
    set(json, "command", operation->command);
    set(json, "cloudstack_job_id", operation->cloud_job_id);
    set_time(json, "requested_at", asked->requested_at_ms);
    set_time(json, "accepted_at", operation->accepted_at_ms);
    set_time(json, "updated_at", submitted ? asked->requested_at_ms : operation->updated_at_ms);
    set_time(json, "ended_at", ended ? operation->updated_at_ms : 0);
    json_object_set_new(json, "result",
                        ended || operation->step > 0 ? result_json(&operation->result) : json_null());
    json_object_set_new(json, "error", error_json(operation));
    g_autofree char *id = g_uri_escape_string(asked->operation_id, NULL, FALSE);
    g_autofree char *self = g_strconcat("/api/v1/operations/", id, NULL);
    set(links, "self", self);
    if (*drover_operation_volume_id(operation)) {
        g_autofree char *volume =
            g_strconcat("/api/v1/volumes/", drover_operation_volume_id(operation), NULL);
        set(links, "volume", volume);
    }
    json_object_set_new(json, "links", links);
    return json;
}

json_t *drover_rest_snapshot_json(const DroverSnapshotRecord *record)
{
    json_t *json = json_object();
    set(json, "snapshot_id", record->snapshot_id);
    set(json, "volume_id", record->volume_id);
    set(json, "vm_id", record->vm_id);
    set(json, "name", record->name);
    set(json, "status", record->status);
    set_time(json, "tracked_at", record->created_at_ms);
    set_time(json, "updated_at", record->updated_at_ms);
    return json;
}

json_t *drover_rest_export_json(const DroverExportRecord *record, const DroverExportStat *stat)
{
    json_t *json = json_object();
    set(json, "volume_id", record->volume_id);
    set(json, "job_id", record->job_id);
    set(json, "disk_id", record->disk_id);
    set(json, "export_name", record->export_name);
    set_number(json, "generation", record->generation);
    set_flag(json, "writable", record->writable);
    set(json, "device_path", record->device_path);
    set(json, "device_serial", record->device_serial);
    set_number(json, "size_bytes", record->size_bytes);
    json_t *counters = json_null();
    if (stat) {
        counters = json_object();
        set_flag(counters, "poisoned", stat->poisoned);
        set_number(counters, "connections", stat->connections);
        set_number(counters, "bytes_written", stat->bytes_written);
        set_number(counters, "bytes_zeroed", stat->bytes_zeroed);
        set_number(counters, "bytes_read", stat->bytes_read);
        set_number(counters, "requests", stat->requests);
        set_number(counters, "flushes", stat->flushes);
    }
    json_object_set_new(json, "counters", counters);
    return json;
}

json_t *drover_rest_volume_json(const json_t *row, const char *appliance_vm_id)
{
    json_t *json = json_object();
    const char *vm_id = drover_json_text(row, "virtualmachineid");
    const json_t *slot = json_object_get(row, "deviceid");
    set(json, "volume_id", drover_json_text(row, "id"));
    set(json, "name", drover_json_text(row, "name"));
    set(json, "state", drover_json_text(row, "state"));
    set(json, "type", drover_json_text(row, "type"));
    set_number(json, "size_bytes", (uint64_t)json_integer_value(json_object_get(row, "size")));
    set(json, "vm_id", vm_id);
    set_flag(json, "attached_to_appliance", strcmp(vm_id, appliance_vm_id) == 0);
    json_object_set_new(json, "device_id",
                        *vm_id && json_is_integer(slot) ? json_integer(json_integer_value(slot))
                                                        : json_null());
    set(json, "zone_id", drover_json_text(row, "zoneid"));
    set(json, "storage", drover_json_text(row, "storage"));
    return json;
}
