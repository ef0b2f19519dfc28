/* SPDX-License-Identifier: Apache-2.0 */
/* What the VM would be made from: template, service offering, OS type. */
#include <string.h>

#include "volume-agent/preflight/gather.h"

static const char *detail(const DroverGather *g, const char *name)
{
    for (size_t i = 0; i < g->target->n_details; i++)
        if (strcmp(g->target->details[i]->key, name) == 0)
            return g->target->details[i]->value;
    return "";
}

static uint64_t detail_number(const DroverGather *g, const char *name)
{
    guint64 n = 0;
    return g_ascii_string_to_unsigned(detail(g, name), 10, 0, G_MAXUINT32, &n, NULL) ? n : 0;
}

static bool look_at_template(DroverGather *g, GError **error)
{
    json_t *row = NULL;
    if (!drover_look_template_row(g->context, g->target->template_id, g->facts.zone_id, &row, error))
        return false;
    drover_gather_hold(g, row);
    g->facts.template_name = drover_json_text(row, "name");
    g->facts.template_ready = json_is_true(json_object_get(row, "isready"));
    g->facts.template_hypervisor = drover_json_text(row, "hypervisor");
    g->facts.template_os_type = drover_json_text(row, "ostypename");
    return true;
}

static bool look_at_offering(DroverGather *g, GError **error)
{
    DroverTargetFacts *f = &g->facts;
    json_t *row = NULL;
    if (!drover_look_service_offering_row(g->context, g->target->service_offering, &row, error))
        return false;
    drover_gather_hold(g, row);
    f->service_name = drover_json_text(row, "name");
    f->service_host_tags = drover_json_text(row, "hosttags");
    f->service_custom = json_is_true(json_object_get(row, "iscustomized"));
    uint64_t mhz = (uint64_t)drover_gather_number(row, "cpuspeed", 0);
    f->cpus = (unsigned)drover_gather_number(row, "cpunumber", 0);
    f->memory_bytes = (uint64_t)drover_gather_number(row, "memory", 0) << 20;
    if (f->service_custom) {
        f->cpus = f->cpus ? f->cpus : (unsigned)detail_number(g, "cpuNumber");
        f->memory_bytes = f->memory_bytes ? f->memory_bytes : detail_number(g, "memory") << 20;
        f->service_complete = f->cpus && f->memory_bytes && (mhz || detail_number(g, "cpuSpeed"));
    }
    return true;
}

static bool look_at_os_types(DroverGather *g, GError **error)
{
    static const char *const nothing[] = {NULL};
    json_t *rows = NULL, *row;
    size_t i;
    if (!*g->target->os_type && !*g->asked->guest_id)
        return true;
    if (!drover_gather_list(g, "listOsTypes", "ostype", nothing, true, &rows, error))
        return false;
    if (!rows) {
        g->facts.os_type_known = true; /* nobody can tell: the deployment will */
        return true;
    }
    GArray *names = drover_gather_array(g, sizeof(char *));
    json_array_foreach(rows, i, row) {
        const char *name = drover_json_text(row, "description");
        g_array_append_val(names, name);
        if (strcmp(name, g->target->os_type) == 0 || strcmp(drover_json_text(row, "id"), g->target->os_type) == 0)
            g->facts.os_type_known = true;
    }
    const char *end = NULL;
    g_array_append_val(names, end);
    g->facts.os_types = (const char *const *)(gpointer)names->data;
    return true;
}

bool drover_gather_vm(DroverGather *g, GError **error)
{
    return look_at_template(g, error) && look_at_offering(g, error) && look_at_os_types(g, error);
}
