/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/preflight/preflight.h"

#include <string.h>

#include "lib/base/error.h"
#include "volume-agent/preflight/gather.h"

#define PAGE 500

static void free_json(gpointer data)
{
    json_decref(data);
}

static void free_array(gpointer data)
{
    g_array_unref(data);
}

json_t *drover_gather_hold(DroverGather *g, json_t *json)
{
    if (json)
        g_ptr_array_add(g->held_json, json);
    return json;
}

const char *drover_gather_text(DroverGather *g, char *text)
{
    g_ptr_array_add(g->held_texts, text);
    return text;
}

GArray *drover_gather_array(DroverGather *g, guint element_size)
{
    GArray *array = g_array_new(FALSE, TRUE, element_size);
    g_ptr_array_add(g->held_arrays, array);
    return array;
}

bool drover_gather_list(DroverGather *g, const char *command, const char *member, const char *const *parameters, bool optional,
                        json_t **rows, GError **error)
{
    json_t *all = drover_gather_hold(g, json_array());
    *rows = all;
    for (unsigned page = 1;; page++) {
        g_autoptr(GPtrArray) full = g_ptr_array_new();
        for (const char *const *at = parameters; *at; at += 2) {
            g_ptr_array_add(full, (gpointer)at[0]);
            g_ptr_array_add(full, (gpointer)at[1]);
        }
        g_autofree char *number = g_strdup_printf("%u", page);
        g_autofree char *size = g_strdup_printf("%u", PAGE);
        gpointer const paging[] = {(gpointer) "page", number, (gpointer) "pagesize", size, NULL};
        for (size_t i = 0; i < G_N_ELEMENTS(paging); i++)
            g_ptr_array_add(full, paging[i]);
        g_autoptr(GError) why = NULL;
        json_t *part = drover_look_list(g->context, command, member, (const char *const *)full->pdata, NULL, &why);
        if (!part && optional && drover_error_class(why) != DROVER_ERROR_RETRYABLE) {
            *rows = NULL;
            return true;
        }
        if (!part) {
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        }
        size_t n = json_array_size(part);
        json_array_extend(all, part);
        json_decref(part);
        if (n < PAGE)
            return true;
    }
}

int64_t drover_gather_number(const json_t *row, const char *name, int64_t missing)
{
    const json_t *value = json_object_get(row, name);
    gint64 n = 0;
    if (json_is_integer(value))
        return json_integer_value(value) >= 0 ? json_integer_value(value) : missing;
    if (json_is_string(value) && g_ascii_string_to_signed(json_string_value(value), 10, 0, G_MAXINT64, &n, NULL))
        return n;
    return missing;
}

static void init(DroverGather *g, const DroverOpContext *context, const Drover__V1__PreflightTarget *asked)
{
    static const Drover__V1__TargetSpec nothing = DROVER__V1__TARGET_SPEC__INIT;
    *g = (DroverGather){.context = context, .asked = asked, .target = asked->target ? asked->target : &nothing,
                        .held_json = g_ptr_array_new_with_free_func(free_json),
                        .held_texts = g_ptr_array_new_with_free_func(g_free),
                        .held_arrays = g_ptr_array_new_with_free_func(free_array)};
    DroverTargetFacts *f = &g->facts;
    const char **const texts[] = {
        &f->zone_id, &f->appliance_zone_id, &f->appliance_cluster_id, &f->appliance_cluster, &f->hypervisor, &f->vm_cluster_id,
        &f->template_name, &f->template_hypervisor, &f->template_os_type, &f->service_name, &f->service_host_tags, &f->name_taken_by};
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++)
        *texts[i] = "";
    f->wants_vm = !asked->volumes_only;
    f->name = asked->name;
    f->boot_type = g->target->boot_type;
    f->boot_mode = g->target->boot_mode;
    f->firmware = asked->firmware;
    f->secure_boot = asked->secure_boot;
    f->guest_id = asked->guest_id;
    f->account = *g->target->project_id ? g->target->project_id : g->target->account;
    f->zone = g->target->zone;
    f->vm_id = asked->vm_id;
    f->template_wanted = *g->target->template_id ? g->target->template_id : context->default_template;
    f->service_wanted = *g->target->service_offering ? g->target->service_offering : context->default_service_offering;
    f->os_type_wanted = g->target->os_type;
    f->disks = drover_gather_array(g, sizeof(DroverTargetDisk));
    f->pools = drover_gather_array(g, sizeof(DroverTargetPool));
    f->hosts = drover_gather_array(g, sizeof(DroverTargetHost));
    f->networks = drover_gather_array(g, sizeof(DroverTargetNetwork));
    f->nics = drover_gather_array(g, sizeof(DroverTargetNic));
    f->quotas = drover_gather_array(g, sizeof(DroverTargetQuota));
}

static void clear(DroverGather *g)
{
    g_ptr_array_unref(g->held_json);
    g_ptr_array_unref(g->held_texts);
    g_ptr_array_unref(g->held_arrays);
    g_free(g->project_id);
}

GPtrArray *drover_agent_preflight(const DroverOpContext *context, const Drover__V1__PreflightTarget *asked, GError **error)
{
    DroverGather g;
    init(&g, context, asked);
    bool ok = drover_gather_rights(&g, error) && drover_gather_place(&g, error);
    bool judges = ok && g.facts.appliance_known;
    ok = ok && (!judges || (drover_gather_disks(&g, error) && drover_gather_owner(&g, error)));
    if (ok && judges && g.facts.wants_vm && !*g.facts.vm_id)
        ok = drover_gather_vm(&g, error) && drover_gather_networks(&g, error);
    GPtrArray *findings = ok ? drover_preflight_target(&g.facts) : NULL;
    clear(&g);
    return findings;
}

bool drover_op_preflight_target(const DroverOpContext *context, DroverOperation *operation, GError **error)
{
    g_autoptr(GPtrArray) findings = drover_agent_preflight(context, operation->asked->preflight_target, error);
    if (!findings)
        return false;
    g_clear_pointer(&operation->result.findings, g_ptr_array_unref);
    for (guint i = 0; i < findings->len; i++) {
        const DroverFinding *f = g_ptr_array_index(findings, i);
        drover_operation_add_finding(operation, drover_severity_name(f->severity), f->code, f->message, f->disk_key);
    }
    if (!drover_preflight_stops(findings))
        return true;
    const DroverFinding *first = g_ptr_array_index(findings, 0);
    return drover_fail(error, DROVER_ERROR_PERMANENT, "%s: %s", first->code, first->message);
}
