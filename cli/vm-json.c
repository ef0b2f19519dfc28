/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/vm-json.h"

#include <stdlib.h>

json_t *drover_json_text(const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    return json_string(valid);
}

static void put(json_t *o, const char *key, const char *text)
{
    json_object_set_new(o, key, drover_json_text(text));
}

static void put_number(json_t *o, const char *key, uint64_t n)
{
    json_object_set_new(o, key, json_integer((json_int_t)n));
}

static void put_key(json_t *o, const char *key, int32_t n)
{
    json_object_set_new(o, key, json_integer(n));
}

static void put_flag(json_t *o, const char *key, bool flag)
{
    json_object_set_new(o, key, json_boolean(flag));
}

static json_t *disk_json(const DroverVsphereDisk *disk)
{
    json_t *o = json_object();
    put_key(o, "key", disk->key);
    put(o, "label", disk->label);
    put(o, "controller", disk->controller);
    put_key(o, "controller_key", disk->controller_key);
    put_key(o, "unit", disk->unit);
    put_number(o, "capacity_bytes", disk->capacity_bytes);
    put(o, "provisioning", disk->thin ? "thin" : disk->eagerly_scrubbed ? "thick-eager-zeroed" : "thick");
    put(o, "backing", disk->backing);
    put(o, "backing_path", disk->backing_path);
    put(o, "backing_uuid", disk->backing_uuid);
    put(o, "datastore", disk->datastore);
    put(o, "mode", disk->disk_mode);
    put(o, "sharing", disk->sharing);
    put(o, "bus_sharing", disk->bus_sharing);
    put(o, "rdm", !disk->rdm ? "" : disk->rdm_physical ? "physical" : "virtual");
    put_flag(o, "encrypted", disk->encrypted);
    put(o, "change_id", disk->change_id);
    return o;
}

static json_t *nic_json(const DroverVsphereNic *nic)
{
    json_t *o = json_object(), *addresses = json_array();
    put_key(o, "key", nic->key);
    put(o, "label", nic->label);
    put(o, "kind", nic->kind);
    put(o, "mac", nic->mac);
    put(o, "network", nic->network);
    put_flag(o, "connected", nic->connected);
    for (guint i = 0; nic->addresses && nic->addresses[i]; i++)
        json_array_append_new(addresses, drover_json_text(nic->addresses[i]));
    json_object_set_new(o, "addresses", addresses);
    return o;
}

static json_t *snapshot_json(const DroverVsphereSnapshot *snapshot)
{
    json_t *o = json_object();
    put(o, "moref", snapshot->moref);
    put(o, "name", snapshot->name);
    put(o, "description", snapshot->description);
    put(o, "created_at", snapshot->created_at);
    put(o, "parent", snapshot->parent);
    put_flag(o, "quiesced", snapshot->quiesced);
    put_flag(o, "current", snapshot->current);
    return o;
}

static json_t *datastore_json(const DroverVsphereDatastore *datastore)
{
    json_t *o = json_object();
    put(o, "moref", datastore->moref);
    put(o, "name", datastore->name);
    put(o, "type", datastore->type);
    put_flag(o, "accessible", datastore->accessible);
    put_number(o, "capacity_bytes", datastore->capacity_bytes);
    put_number(o, "free_bytes", datastore->free_bytes);
    return o;
}

static void put_lists(json_t *o, const DroverVsphereVm *vm)
{
    json_t *disks = json_array(), *nics = json_array(), *snapshots = json_array(), *datastores = json_array();
    for (guint i = 0; i < vm->disks->len; i++)
        json_array_append_new(disks, disk_json(vm->disks->pdata[i]));
    for (guint i = 0; i < vm->nics->len; i++)
        json_array_append_new(nics, nic_json(vm->nics->pdata[i]));
    for (guint i = 0; i < vm->snapshots->len; i++)
        json_array_append_new(snapshots, snapshot_json(vm->snapshots->pdata[i]));
    for (guint i = 0; i < vm->datastores->len; i++)
        json_array_append_new(datastores, datastore_json(vm->datastores->pdata[i]));
    json_object_set_new(o, "disks", disks);
    json_object_set_new(o, "nics", nics);
    json_object_set_new(o, "snapshots", snapshots);
    json_object_set_new(o, "datastores", datastores);
}

json_t *drover_vm_json(const char *vcenter, const DroverVsphereVm *vm)
{
    const struct {
        const char *key, *text;
    } texts[] = {{"vcenter", vcenter}, {"moref", vm->moref}, {"name", vm->name}, {"inventory_path", vm->inventory_path},
                 {"instance_uuid", vm->instance_uuid}, {"bios_uuid", vm->bios_uuid}, {"power_state", vm->power_state},
                 {"connection_state", vm->connection_state}, {"hardware_version", vm->version}, {"guest_id", vm->guest_id},
                 {"guest_name", vm->guest_full_name}, {"guest_family", vm->guest_family}, {"host_name", vm->host_name},
                 {"tools_status", vm->tools_status}, {"tools_version_status", vm->tools_version_status},
                 {"firmware", vm->firmware}, {"host", vm->host}, {"host_address", vm->host_address},
                 {"annotation", vm->annotation}};
    const struct {
        const char *key;
        bool flag;
    } flags[] = {{"template", vm->template}, {"secure_boot", vm->secure_boot}, {"vtpm", vm->vtpm},
                 {"encrypted", vm->encrypted}, {"fault_tolerant", vm->fault_tolerant},
                 {"pci_passthrough", vm->pci_passthrough}, {"change_tracking_supported", vm->has_change_tracking},
                 {"change_tracking", vm->change_tracking}, {"consolidation_needed", vm->consolidation_needed}};
    json_t *o = json_object();
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++)
        put(o, texts[i].key, texts[i].text);
    for (guint i = 0; i < G_N_ELEMENTS(flags); i++)
        put_flag(o, flags[i].key, flags[i].flag);
    put_number(o, "cpus", vm->cpus);
    put_number(o, "cores_per_socket", vm->cores_per_socket);
    put_number(o, "memory_bytes", vm->memory_bytes);
    put_number(o, "used_bytes", vm->committed_bytes);
    put_number(o, "uncommitted_bytes", vm->uncommitted_bytes);
    put_lists(o, vm);
    return o;
}

json_t *drover_findings_json(const GPtrArray *findings)
{
    json_t *list = json_array();
    for (guint i = 0; i < findings->len; i++) {
        const DroverFinding *finding = g_ptr_array_index(findings, i);
        json_t *o = json_object();
        put(o, "severity", drover_severity_name(finding->severity));
        put(o, "code", finding->code);
        put(o, "message", finding->message);
        put_key(o, "disk_key", finding->disk_key);
        json_array_append_new(list, o);
    }
    return list;
}

void drover_json_print(json_t *value)
{
    char *text = json_dumps(value, JSON_INDENT(2));
    g_print("%s\n", text);
    free(text);
    json_decref(value);
}
