/* SPDX-License-Identifier: Apache-2.0 */
#include "core/dispatch/admission.h"

typedef struct {
    char *key; /* NULL: does not apply */
    uint32_t most;
} Gate;
enum { GATES = 5 };

static char *host_key(const DroverSourceVm *source)
{
    return g_strdup_printf("ESXi host %s of vCenter %s", source->host, source->vcenter);
}

static void gates_of(const DroverAdmission *admission, const DroverJob *job, const DroverDisk *disk, Gate gates[GATES])
{
    const DroverLimits *limits = admission->limits;
    const DroverSourceVm *source = &job->source;
    for (int i = 0; i < GATES; i++)
        gates[i] = (Gate){0};
    gates[0] = (Gate){g_strdup_printf("volume agent %s", job->agent), limits->transfers_per_target};
    if (!source->present)
        return;
    gates[1] = (Gate){g_strdup_printf("disk %s of job %s", disk->disk_id, job->job_id), limits->transfers_per_vm_disk};
    gates[2] = (Gate){g_strdup_printf("vCenter %s", source->vcenter), limits->transfers_per_vcenter};
    if (*source->host != '\0')
        gates[3] = (Gate){host_key(source), limits->transfers_per_host};
    if (*disk->datastore != '\0')
        gates[4] = (Gate){g_strdup_printf("datastore %s of vCenter %s", disk->datastore, source->vcenter),
                          limits->transfers_per_datastore};
}

DroverAdmission *drover_admission_new(const DroverLimits *limits)
{
    DroverAdmission *admission = g_new0(DroverAdmission, 1);
    admission->limits = limits;
    admission->running = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    return admission;
}

void drover_admission_free(DroverAdmission *admission)
{
    if (admission == NULL)
        return;
    g_hash_table_unref(admission->running);
    g_free(admission);
}

static uint32_t running_at(const DroverAdmission *admission, const char *key)
{
    return GPOINTER_TO_UINT(g_hash_table_lookup(admission->running, key));
}

void drover_admission_count(DroverAdmission *admission, const DroverJob *job, const DroverDisk *disk)
{
    Gate gates[GATES];
    gates_of(admission, job, disk, gates);
    for (int i = 0; i < GATES; i++)
        if (gates[i].key != NULL) {
            uint32_t running = running_at(admission, gates[i].key) + 1;
            g_hash_table_replace(admission->running, gates[i].key, GUINT_TO_POINTER(running));
        }
}

char *drover_admission_refuse(const DroverAdmission *admission, const DroverJob *job, const DroverDisk *disk)
{
    Gate gates[GATES];
    char *why = NULL;
    gates_of(admission, job, disk, gates);
    for (int i = 0; i < GATES; i++) {
        if (why == NULL && gates[i].key != NULL && gates[i].most > 0 &&
            running_at(admission, gates[i].key) >= gates[i].most)
            why = g_strdup_printf("%u copies run at %s already, its limit", running_at(admission, gates[i].key),
                                  gates[i].key);
        g_free(gates[i].key);
    }
    return why;
}

GStrv drover_admission_full_hosts(const DroverAdmission *admission, GPtrArray *jobs, const char *vcenter)
{
    g_autoptr(GStrvBuilder) full = g_strv_builder_new();
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    uint32_t most = admission->limits->transfers_per_host;
    for (guint j = 0; j < jobs->len && most > 0; j++) {
        const DroverSourceVm *source = &((const DroverJob *)jobs->pdata[j])->source;
        if (!source->present || *source->host == '\0' || !g_str_equal(source->vcenter, vcenter) ||
            !g_hash_table_add(seen, source->host))
            continue;
        g_autofree char *key = host_key(source);
        if (running_at(admission, key) >= most)
            g_strv_builder_add(full, source->host);
    }
    return g_strv_builder_end(full);
}

DroverAdmission *drover_admission_of(GPtrArray *jobs, const DroverLimits *limits)
{
    DroverAdmission *admission = drover_admission_new(limits);
    for (guint j = 0; j < jobs->len; j++) {
        const DroverJob *job = jobs->pdata[j];
        for (guint d = 0; d < job->disks->len; d++) {
            const DroverDisk *disk = job->disks->pdata[d];
            for (guint t = 0; t < disk->tasks->len; t++)
                if (drover_task_moves_data(disk->tasks->pdata[t]) && drover_task_is_live(disk->tasks->pdata[t]))
                    drover_admission_count(admission, job, disk);
        }
    }
    return admission;
}
