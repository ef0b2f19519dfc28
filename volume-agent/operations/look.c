/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/operations/look.h"

#include <string.h>

#include "lib/base/error.h"
#include "lib/base/ids.h"
#include "volume-agent/operations/call.h"

#define POLL_MS 150

json_t *drover_look_list(const DroverOpContext *context, const char *command, const char *member,
                         const char *const *parameters, DroverCloudFailure *failure, GError **error)
{
    /* an empty list is {} */
    json_t *answer = drover_cloudstack_call(context->cloud, command, 0, parameters, failure, error);
    if (!answer)
        return NULL;
    json_t *array = json_object_get(answer, member);
    array = json_is_array(array) ? json_incref(array) : json_array();
    json_decref(answer);
    return array;
}

static bool is_one_of(const char *text, const char *const *words)
{
    return g_strv_contains(words, text);
}

/* The first row that is not one of GONE, of those that PARAMETERS list: borrowed, or NULL. */
static json_t *first_left(const json_t *array, const char *const *gone)
{
    size_t i;
    json_t *row;
    json_array_foreach(array, i, row)
        if (!is_one_of(drover_json_text(row, "state"), gone))
            return row;
    return NULL;
}

/* What PARAMETERS list, once its state is none of BETWEEN; one of GONE counts as gone. ID is for messages. */
static bool look(const DroverOpContext *context, const char *command, const char *member, const char *id, const char *const *parameters,
                 const char *const *between, const char *const *gone, json_t **object, GError **error)
{
    int64_t deadline_ms = drover_boottime_ms() + context->job_timeout_ms;
    *object = NULL;
    for (;;) {
        g_autoptr(GError) why = NULL;
        DroverCloudFailure failure;
        json_t *array = drover_look_list(context, command, member, parameters, &failure, &why);
        if (!array && failure.error_code == 431) /* an id that it does not know */
            return true;
        if (!array) {
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        }
        json_t *found = first_left(array, gone);
        const char *state = drover_json_text(found, "state");
        bool waits = found && is_one_of(state, between);
        if (waits && drover_boottime_ms() > deadline_ms) {
            drover_fail(error, DROVER_ERROR_RETRYABLE, "%s has been %s for %" G_GINT64_FORMAT " s", id, state,
                        context->job_timeout_ms / 1000);
            json_decref(array);
            return false;
        }
        if (!waits) {
            *object = found ? json_incref(found) : NULL;
            json_decref(array);
            return true;
        }
        json_decref(array);
        if (!drover_op_sleep(context, POLL_MS, error))
            return false;
    }
}

bool drover_look_volume(const DroverOpContext *context, const char *volume_id, json_t **object, GError **error)
{
    static const char *const between[] = {"Attaching", "Creating", "Migrating", "Snapshotting", "Resizing", "RevertSnapshotting", "Expunging", NULL};
    static const char *const gone[] = {"Expunged", "Destroy", NULL};
    const char *const parameters[] = {"id", volume_id, "listall", "true", NULL};
    return look(context, "listVolumes", "volume", volume_id, parameters, between, gone, object, error);
}

bool drover_look_vm(const DroverOpContext *context, const char *vm_id, json_t **object, GError **error)
{
    static const char *const between[] = {"Starting", "Stopping", "Migrating", "Expunging", NULL};
    static const char *const gone[] = {"Expunged", NULL};
    const char *const parameters[] = {"id", vm_id, "listall", "true", NULL};
    return look(context, "listVirtualMachines", "virtualmachine", vm_id, parameters, between, gone, object, error);
}

static const char *const snapshot_between[] = {"Allocated", "Creating", "BackingUp", "Copying", "Destroying", NULL};
static const char *const snapshot_gone[] = {"Destroyed", "Error", NULL};

bool drover_look_snapshot(const DroverOpContext *context, const char *snapshot_id, json_t **object, GError **error)
{
    const char *const parameters[] = {"id", snapshot_id, "listall", "true", NULL};
    return look(context, "listSnapshots", "snapshot", snapshot_id, parameters, snapshot_between, snapshot_gone, object, error);
}

bool drover_look_snapshot_named(const DroverOpContext *context, const char *volume_id, const char *name, json_t **object, GError **error)
{
    const char *const parameters[] = {"volumeid", volume_id, "name", name, "listall", "true", NULL};
    return look(context, "listSnapshots", "snapshot", name, parameters, snapshot_between, snapshot_gone, object, error);
}

json_t *drover_look_volumes_of(const DroverOpContext *context, const char *vm_id, GError **error)
{
    /* What is a project's shows only to those who name the project. */
    json_t *vm = NULL;
    if (!drover_look_vm(context, vm_id, &vm, error))
        return NULL;
    const char *const parameters[] = {"virtualmachineid", vm_id, "listall", "true", "projectid", drover_json_text(vm, "projectid"), NULL};
    json_t *volumes = drover_look_list(context, "listVolumes", "volume", parameters, NULL, error);
    json_decref(vm);
    return volumes;
}

bool drover_look_until_idle(const DroverOpContext *context, const char *object_id, GError **error)
{
    static const char *const parameters[] = {"listall", "true", NULL};
    int64_t deadline_ms = drover_boottime_ms() + context->job_timeout_ms;
    for (;;) {
        json_t *jobs = drover_look_list(context, "listAsyncJobs", "asyncjobs", parameters, NULL, error);
        if (!jobs)
            return false;
        bool busy = false;
        size_t i;
        json_t *job;
        json_array_foreach(jobs, i, job)
            busy = busy || (json_integer_value(json_object_get(job, "jobstatus")) == 0 &&
                            strcmp(drover_json_text(job, "jobinstanceid"), object_id) == 0);
        json_decref(jobs);
        if (!busy)
            return true;
        if (drover_boottime_ms() > deadline_ms)
            return drover_fail(error, DROVER_ERROR_RETRYABLE, "CloudStack has been working on %s for %" G_GINT64_FORMAT " s",
                               object_id, context->job_timeout_ms / 1000);
        if (!drover_op_sleep(context, POLL_MS, error))
            return false;
    }
}

/* ---- names ---------------------------------------------------------------------------------------------------- */

json_t *drover_look_pick(json_t *array, const char *wanted, bool (*suits)(json_t *))
{
    size_t i;
    json_t *entry;
    json_array_foreach(array, i, entry) {
        if (*wanted ? strcmp(drover_json_text(entry, "id"), wanted) == 0 || strcmp(drover_json_text(entry, "name"), wanted) == 0
                    : !suits || suits(entry))
            return entry;
    }
    return NULL;
}

static char *missing(const char *what, const char *code, const char *wanted, GError **error)
{
    if (*wanted)
        drover_fail(error, DROVER_ERROR_PERMANENT, "%s: CloudStack has no %s '%s' that this agent may use", code, what, wanted);
    else
        drover_fail(error, DROVER_ERROR_PERMANENT, "%s: CloudStack has no %s that suits; name one in the job or the agent's configuration",
                    code, what);
    return NULL;
}

static const char *first_of(const char *wanted, const char *fallback)
{
    return wanted && *wanted ? wanted : fallback ? fallback : "";
}

char *drover_look_zone(const DroverOpContext *context, const char *wanted, GError **error)
{
    if (!wanted || !*wanted) {
        json_t *vm = NULL;
        if (!drover_look_vm(context, context->appliance_vm_id, &vm, error))
            return NULL;
        char *zone = vm ? g_strdup(drover_json_text(vm, "zoneid")) : NULL;
        json_decref(vm);
        if (!zone)
            drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-APPLIANCE: CloudStack knows no VM %s: is [agent] appliance-vm-id right?",
                        context->appliance_vm_id);
        return zone;
    }
    json_t *zones = drover_look_list(context, "listZones", "zone", NULL, NULL, error);
    if (!zones)
        return NULL;
    json_t *zone = drover_look_pick(zones, wanted, NULL);
    char *id = zone ? g_strdup(drover_json_text(zone, "id")) : missing("zone", "DRV-TARGET-ZONE", wanted, error);
    json_decref(zones);
    return id;
}

/* An offering with storage tags lands on special pools: never taken unasked. */
static bool is_plain_custom_disk(json_t *offering)
{
    return json_is_true(json_object_get(offering, "iscustomized")) && !*drover_json_text(offering, "tags") &&
           !json_is_true(json_object_get(offering, "iscustomizediops"));
}

/* What PARAMETERS list and WANTED names, or what SUITS; *ROW is a new reference or NULL. */
static bool choose(const DroverOpContext *context, const char *command, const char *member, const char *const *parameters,
                   const char *wanted, bool (*suits)(json_t *), json_t **row, GError **error)
{
    json_t *rows = drover_look_list(context, command, member, parameters, NULL, error);
    *row = rows ? json_incref(drover_look_pick(rows, wanted, suits)) : NULL;
    json_decref(rows);
    return rows != NULL;
}

bool drover_look_disk_offering_row(const DroverOpContext *context, const char *wanted, json_t **row, GError **error)
{
    static const char *const parameters[] = {"listall", "true", NULL};
    return choose(context, "listDiskOfferings", "diskoffering", parameters, first_of(wanted, context->default_disk_offering),
                  is_plain_custom_disk, row, error);
}

char *drover_look_disk_offering(const DroverOpContext *context, const char *wanted, bool *custom_size,
                                uint64_t *size_bytes, GError **error)
{
    wanted = first_of(wanted, context->default_disk_offering);
    json_t *offering = NULL;
    if (!drover_look_disk_offering_row(context, wanted, &offering, error))
        return NULL;
    char *id = offering ? g_strdup(drover_json_text(offering, "id"))
                        : missing("disk offering", "DRV-TARGET-DISK-OFFERING", wanted, error);
    if (offering) {
        *custom_size = json_is_true(json_object_get(offering, "iscustomized"));
        *size_bytes = (uint64_t)json_integer_value(json_object_get(offering, "disksize")) << 30;
    }
    json_decref(offering);
    return id;
}

static bool is_plain_compute(json_t *offering)
{
    return !json_is_true(json_object_get(offering, "iscustomized")) && !json_is_true(json_object_get(offering, "issystem")) &&
           !*drover_json_text(offering, "hosttags");
}

bool drover_look_service_offering_row(const DroverOpContext *context, const char *wanted, json_t **row, GError **error)
{
    static const char *const parameters[] = {"listall", "true", NULL};
    return choose(context, "listServiceOfferings", "serviceoffering", parameters,
                  first_of(wanted, context->default_service_offering), is_plain_compute, row, error);
}

char *drover_look_service_offering(const DroverOpContext *context, const char *wanted, GError **error)
{
    wanted = first_of(wanted, context->default_service_offering);
    json_t *offering = NULL;
    if (!drover_look_service_offering_row(context, wanted, &offering, error))
        return NULL;
    char *id = offering ? g_strdup(drover_json_text(offering, "id"))
                        : missing("service offering", "DRV-TARGET-SERVICE-OFFERING", wanted, error);
    json_decref(offering);
    return id;
}

static bool is_ready_template(json_t *template)
{
    return json_is_true(json_object_get(template, "isready")) &&
           strcmp(drover_json_text(template, "templatetype"), "SYSTEM") != 0;
}

bool drover_look_template_row(const DroverOpContext *context, const char *wanted, const char *zone_id, json_t **row,
                              GError **error)
{
    const char *const parameters[] = {"templatefilter", "executable", "zoneid", zone_id, "listall", "true", NULL};
    return choose(context, "listTemplates", "template", parameters, first_of(wanted, context->default_template),
                  is_ready_template, row, error);
}

char *drover_look_template(const DroverOpContext *context, const char *wanted, const char *zone_id, GError **error)
{
    wanted = first_of(wanted, context->default_template);
    json_t *template = NULL;
    if (!drover_look_template_row(context, wanted, zone_id, &template, error))
        return NULL;
    char *id = template ? g_strdup(drover_json_text(template, "id"))
                        : missing("template", "DRV-TARGET-TEMPLATE", wanted, error);
    json_decref(template);
    return id;
}

char *drover_look_os_type(const DroverOpContext *context, const char *wanted, GError **error)
{
    /* There are more of them than fit on a page, so one is asked for; as an id only when it is no description. */
    static const char *const names[] = {"description", "id"};
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        const char *const parameters[] = {names[i], wanted, "listall", "true", NULL};
        DroverCloudFailure failure;
        g_autoptr(GError) why = NULL;
        json_t *types = drover_look_list(context, "listOsTypes", "ostype", parameters, &failure, &why);
        if (!types && failure.error_code != 431) { /* an id that it does not know */
            g_propagate_error(error, g_steal_pointer(&why));
            return NULL;
        }
        g_autofree char *id = g_strdup(drover_json_text(json_array_get(types, 0), "id"));
        json_decref(types);
        if (*id)
            return g_steal_pointer(&id);
    }
    return missing("OS type", "DRV-TARGET-OS-TYPE", wanted, error);
}

char *drover_look_networks(const DroverOpContext *context, char *const *wanted, size_t n, const char *zone_id,
                           const char *project_id, GError **error)
{
    const char *const parameters[] = {"zoneid", zone_id, "listall", "true", "projectid", project_id, NULL};
    json_t *networks = drover_look_list(context, "listNetworks", "network", parameters, NULL, error);
    if (!networks)
        return NULL;
    size_t n_defaults = g_strv_length((char **)context->default_networks);
    const char *const *names = n ? (const char *const *)wanted : context->default_networks;
    size_t n_names = n ? n : n_defaults;
    g_autoptr(GString) ids = g_string_new(NULL);
    bool ok = true;
    for (size_t i = 0; ok && i < MAX(n_names, 1); i++) {
        const char *name = i < n_names ? names[i] : "";
        json_t *network = drover_look_pick(networks, name, NULL);
        ok = network != NULL;
        if (ok)
            g_string_append_printf(ids, "%s%s", ids->len ? "," : "", drover_json_text(network, "id"));
        else
            missing("network", "DRV-TARGET-NETWORK", name, error);
    }
    json_decref(networks);
    return ok ? g_string_free(g_steal_pointer(&ids), FALSE) : NULL;
}
