/* SPDX-License-Identifier: Apache-2.0 */
/* POST /preflight: from a body to the question, and from findings to the answer. */
#include "volume-agent/preflight/preflight.h"

#include "volume-agent/rest/api.h"
#include "volume-agent/rest/record.h"

/* The question, and what its pointers lead to. Texts are the body's. */
typedef struct {
    Drover__V1__PreflightTarget asked;
    Drover__V1__TargetSpec target;
    GPtrArray *disks, *nics;
    char *networks[16];
    Drover__V1__TargetSpec__DetailsEntry details[3], *detail_list[3];
    char numbers[3][24];
} Question;

static char *text(const json_t *body, const char *name)
{
    return (char *)drover_rest_text(body, name);
}

static void add_disks(Question *q, const json_t *list)
{
    size_t i;
    json_t *row;
    json_array_foreach(list, i, row)
    {
        Drover__V1__PreflightDisk *disk = g_new(Drover__V1__PreflightDisk, 1);
        drover__v1__preflight_disk__init(disk);
        disk->disk_id = text(row, "disk_id");
        disk->size_bytes = drover_rest_number(row, "size_bytes");
        disk->disk_offering = text(row, "disk_offering");
        disk->disk_key = (int32_t)drover_rest_number(row, "disk_key");
        disk->volume_id = text(row, "volume_id");
        g_ptr_array_add(q->disks, disk);
    }
    q->asked.n_disks = q->disks->len;
    q->asked.disks = (Drover__V1__PreflightDisk **)q->disks->pdata;
}

static void add_nics(Question *q, const json_t *list)
{
    size_t i;
    json_t *row;
    json_array_foreach(list, i, row)
    {
        Drover__V1__PreflightNic *nic = g_new(Drover__V1__PreflightNic, 1);
        drover__v1__preflight_nic__init(nic);
        nic->mac = text(row, "mac");
        nic->ip = text(row, "ip");
        nic->keep = drover_rest_flag(row, "keep");
        g_ptr_array_add(q->nics, nic);
    }
    q->asked.n_nics = q->nics->len;
    q->asked.nics = (Drover__V1__PreflightNic **)q->nics->pdata;
}

/* As CloudStack wants them from a deployment. */
static void add_size(Question *q, const json_t *body)
{
    static const struct {
        const char *field, *detail;
    } sizes[] = {{"cpus", "cpuNumber"}, {"cpu_mhz", "cpuSpeed"}, {"memory_mib", "memory"}};
    q->target.details = q->detail_list;
    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        uint64_t n = drover_rest_number(body, sizes[i].field);
        if (!n)
            continue;
        g_snprintf(q->numbers[i], sizeof q->numbers[i], "%" G_GUINT64_FORMAT, n);
        drover__v1__target_spec__details_entry__init(&q->details[i]);
        q->details[i].key = (char *)sizes[i].detail;
        q->details[i].value = q->numbers[i];
        q->detail_list[q->target.n_details++] = &q->details[i];
    }
}

static void ask(Question *q, const json_t *body)
{
    drover__v1__preflight_target__init(&q->asked);
    drover__v1__target_spec__init(&q->target);
    q->disks = g_ptr_array_new_with_free_func(g_free);
    q->nics = g_ptr_array_new_with_free_func(g_free);
    q->asked.target = &q->target;
    q->asked.name = text(body, "name");
    q->asked.volumes_only = drover_rest_flag(body, "volumes_only");
    q->asked.vm_id = text(body, "vm_id");
    q->asked.firmware = text(body, "firmware");
    q->asked.secure_boot = drover_rest_flag(body, "secure_boot");
    q->asked.guest_id = text(body, "guest_id");
    q->target.zone = text(body, "zone");
    q->target.service_offering = text(body, "service_offering");
    q->target.template_id = text(body, "template");
    q->target.os_type = text(body, "os_type");
    q->target.account = text(body, "account");
    q->target.domain_id = text(body, "domain_id");
    q->target.project_id = text(body, "project_id");
    q->target.boot_type = text(body, "boot_type");
    q->target.boot_mode = text(body, "boot_mode");
    size_t i;
    json_t *name;
    json_array_foreach(json_object_get(body, "networks"), i, name)
        q->networks[i] = (char *)json_string_value(name);
    q->target.n_network_ids = json_array_size(json_object_get(body, "networks"));
    q->target.network_ids = q->networks;
    add_disks(q, json_object_get(body, "disks"));
    add_nics(q, json_object_get(body, "nics"));
    add_size(q, body);
}

/* What the caller named and CloudStack does not have. */
static bool is_missing(const GError *error)
{
    return g_str_has_prefix(error->message, "DRV-VM-MISSING:") || g_str_has_prefix(error->message, "DRV-VOLUME-MISSING:");
}

bool drover_rest_preflight(DroverRestApi *api, const json_t *body, DroverRestReply *reply, DroverRestProblem *problem)
{
    Question q = {0};
    ask(&q, body);
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) findings = drover_agent_preflight(api->context, &q.asked, &error);
    g_ptr_array_unref(q.disks);
    g_ptr_array_unref(q.nics);
    if (!findings) {
        drover_rest_problem_from(problem, error);
        if (is_missing(error))
            problem->status = 404;
        return false;
    }
    json_t *list = json_array();
    for (guint i = 0; i < findings->len; i++) {
        const DroverFinding *f = g_ptr_array_index(findings, i);
        json_array_append_new(list, drover_rest_finding_json(drover_severity_name(f->severity), f->code, f->message, f->disk_key));
    }
    drover_rest_reply_json(reply, 200, json_pack("{s:b, s:o}", "go", !drover_preflight_stops(findings), "findings", list));
    return true;
}
