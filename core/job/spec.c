/* SPDX-License-Identifier: Apache-2.0 */
#include "core/job/spec.h"

#include "lib/base/ids.h"

static bool refuse(DroverFault *fault, const char *code, const char *format, ...) G_GNUC_PRINTF(3, 4);
static bool refuse(DroverFault *fault, const char *code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    drover_fault_set(fault, DROVER_ERROR_PERMANENT, code, "%s: %s", code, text);
    return false;
}

/* Text from outside, fit for a message: UTF-8, short. */
static char *shown(const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    g_autofree char *escaped = g_strescape(valid, NULL);
    return strlen(escaped) > 80 ? g_strdup_printf("%.80s…", escaped) : g_steal_pointer(&escaped);
}

static const char *the_site(const DroverRequest *request, const DroverPlaces *places)
{
    if (*request->site != '\0')
        return g_strv_contains(places->sites, request->site) ? request->site : NULL;
    return places->sites[0] != NULL && places->sites[1] == NULL ? places->sites[0] : NULL;
}

static bool check_places(const DroverRequest *request, const DroverPlaces *places, DroverFault *fault)
{
    g_autofree char *sites = g_strjoinv(", ", (char **)places->sites);
    g_autofree char *agents = g_strjoinv(", ", (char **)places->agents);
    if (the_site(request, places) == NULL) {
        g_autofree char *site = shown(request->site);
        return *site == '\0'
                   ? refuse(fault, "DRV-SPEC-SITE", "no source_site given, and there is more than one: %s",
                            sites)
                   : refuse(fault, "DRV-SPEC-SITE", "unknown source_site \"%s\"; known are: %s", site, sites);
    }
    if (*request->agent != '\0' && !g_strv_contains(places->agents, request->agent)) {
        g_autofree char *agent = shown(request->agent);
        return refuse(fault, "DRV-SPEC-AGENT", "unknown volume agent \"%s\"; known are: %s", agent, agents);
    }
    return true;
}

static bool check_disk(const DroverRequest *request, size_t index, DroverFault *fault)
{
    const DroverDiskRequest *disk = &request->disks[index];
    g_autofree char *id = shown(disk->disk_id);
    if (!drover_id_is_valid(disk->disk_id))
        return refuse(fault, "DRV-SPEC-DISK", "disk_id \"%s\" is not of the form [A-Za-z0-9._-]{1,64}", id);
    if (*disk->source_kind == '\0' || *disk->source == '\0')
        return refuse(fault, "DRV-SPEC-SOURCE", "disk %s has no source that this version knows", id);
    if (g_str_equal(disk->source_kind, "file") && *disk->source != '/')
        return refuse(fault, "DRV-SPEC-SOURCE", "the source of disk %s is not an absolute path", id);
    if (disk->has_target_size && disk->target_size_bytes == 0)
        return refuse(fault, "DRV-SPEC-SIZE",
                      "disk %s asks for a target of 0 bytes; leave the size out instead", id);
    for (size_t i = 0; i < index; i++) {
        const DroverDiskRequest *other = &request->disks[i];
        if (g_str_equal(other->disk_id, disk->disk_id))
            return refuse(fault, "DRV-SPEC-DISK", "two disks are called %s", id);
        if (g_strcmp0(other->vm, disk->vm) != 0)
            return refuse(fault, "DRV-SPEC-SOURCE",
                          "disks %s and %s do not belong to the same VM; submit a job for each VM", other->disk_id, id);
        if (g_str_equal(other->source_kind, disk->source_kind) && g_str_equal(other->source, disk->source))
            return refuse(fault, "DRV-SPEC-DUPLICATE", "disks %s and %s have the same source", other->disk_id,
                          id);
    }
    return true;
}

bool drover_spec_check(const DroverRequest *request, const DroverPlaces *places, DroverFault *fault)
{
    if (g_bytes_get_size(request->spec) > DROVER_SPEC_MAX_BYTES)
        return refuse(fault, "DRV-SPEC-SIZE", "the submission has more than %u bytes", DROVER_SPEC_MAX_BYTES);
    if (!drover_vm_name_is_valid(request->name)) {
        g_autofree char *name = shown(request->name);
        return refuse(
            fault, "DRV-SPEC-NAME",
            "name \"%s\" is not a host name: 1 to 63 letters, digits and '-', beginning with a letter", name);
    }
    if (request->n_disks == 0 || request->n_disks > DROVER_DISKS_MAX)
        return refuse(fault, "DRV-SPEC-DISK", "a job has 1 to %d disks, not %zu", DROVER_DISKS_MAX,
                      request->n_disks);
    if (request->digest < 0 || request->digest > DROVER_DIGEST_SHA256)
        return refuse(fault, "DRV-SPEC-DIGEST", "digest algorithm %d is not known to this version",
                      request->digest);
    if (request->round_interval_ms > 0 && request->round_interval_ms < DROVER_ROUND_INTERVAL_MIN_MS)
        return refuse(fault, "DRV-SPEC-ROUNDS", "rounds cannot begin more often than every %d ms",
                      DROVER_ROUND_INTERVAL_MIN_MS);
    if (request->round_interval_ms > 0 && request->failover)
        return refuse(fault, "DRV-SPEC-ROUNDS",
                      "a replicated job is handed over when told: leave failover out and say \"drover failover live\"");
    if (request->deep_verify_before_cutover && request->digest == DROVER_DIGEST_NONE)
        return refuse(fault, "DRV-SPEC-DIGEST", "a deep-verify round needs a digest");
    if (!check_places(request, places, fault))
        return false;
    for (size_t i = 0; i < request->n_disks; i++)
        if (!check_disk(request, i, fault))
            return false;
    return true;
}

static void add_disks(DroverJob *job, const DroverRequest *request)
{
    for (size_t i = 0; i < request->n_disks; i++) {
        const DroverDiskRequest *wanted = &request->disks[i];
        DroverDisk *disk = drover_job_add_disk(job, wanted->disk_id);
        disk->spec = g_bytes_ref(wanted->spec);
        disk->wanted_size_bytes = wanted->has_target_size ? wanted->target_size_bytes : 0;
        disk->source_key = wanted->source_key;
        disk->dirty = true;
    }
}

DroverJob *drover_job_submit(const DroverRequest *request, const DroverPlaces *places,
                             const DroverLimits *limits, const DroverAt *at, GPtrArray *outputs)
{
    g_assert(drover_id_is_valid(request->job_id));
    DroverJob *job = drover_job_new(request->job_id);
    DroverFault fault = {0};
    bool acceptable = drover_spec_check(request, places, &fault);
    job->created_at_ms = at->now_ms;
    job->phase_started_at_ms[DROVER_PHASE_SUBMITTED] = at->now_ms;
    job->dirty = job->control_dirty = true;
    drover_outputs_audit(outputs, "info", "job.submitted", NULL, "Submitted%s%s",
                         *request->submitter != '\0' ? " by " : "", request->submitter);
    if (g_bytes_get_size(request->spec) <= DROVER_SPEC_MAX_BYTES)
        job->spec = g_bytes_ref(request->spec);
    drover_set_string(&job->name, request->name);
    if (acceptable) {
        drover_set_string(&job->site, the_site(request, places));
        drover_set_string(&job->wanted_agent, request->agent);
        job->digest = request->digest == 0 ? DROVER_DIGEST_XXH3 : (DroverDigestAlgorithm)request->digest;
        job->bandwidth_limit = request->bandwidth_limit;
        job->range_bytes = request->range_bytes;
        job->priority = request->priority;
        job->round_interval_ms = request->round_interval_ms;
        job->deep_verify_before_cutover = request->deep_verify_before_cutover;
        job->failover_requested = request->failover;
        if (request->failover) {
            job->failover_kind = DROVER_FAILOVER_LIVE;
            drover_set_string(&job->failover_status, "pending");
        }
        if (request->source != NULL)
            drover_source_vm_copy(&job->source, request->source);
        add_disks(job, request);
    }
    DroverInput input = {.kind = acceptable ? DROVER_INPUT_TICK : DROVER_INPUT_FAULT, .fault = &fault};
    drover_job_step(job, &input, limits, at, outputs);
    drover_fault_clear(&fault);
    return job;
}
