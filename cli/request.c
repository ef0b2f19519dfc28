/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/request.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/send.h"
#include "lib/base/error.h"
#include "lib/base/ids.h"

#define MAX_DISKS 64

void drover_request_init(DroverRequest *request)
{
    *request = (DroverRequest){.disks = g_array_new(FALSE, TRUE, sizeof(DroverSource))};
    g_array_set_clear_func(request->disks, (GDestroyNotify)drover_source_clear);
}

void drover_request_clear(DroverRequest *r)
{
    char **const texts[] = {&r->job_id, &r->name,    &r->site,    &r->digest,  &r->agent,     &r->zone,     &r->service_offering,
                            &r->template_id, &r->os_type, &r->account, &r->domain, &r->project, &r->boot_type, &r->boot_mode,
                            &r->source_policy.power};
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++)
        g_clear_pointer(texts[i], g_free);
    g_clear_pointer(&r->labels, g_strfreev);
    g_clear_pointer(&r->networks, g_strfreev);
    g_clear_pointer(&r->details, g_strfreev);
    g_clear_pointer(&r->disks, g_array_unref);
}

/* ---- checks --------------------------------------------------------------------------------------------------- */

static const DroverSource *disk_at(const DroverRequest *request, guint i)
{
    return &g_array_index(request->disks, DroverSource, i);
}

char *drover_vm_name_from(const char *base)
{
    GString *out = g_string_new(NULL);
    for (const char *p = base; *p && out->len < 63; p++) {
        if (g_ascii_isalpha(*p) || (out->len > 0 && g_ascii_isdigit(*p)))
            g_string_append_c(out, *p);
        else if (out->len > 0 && out->str[out->len - 1] != '-')
            g_string_append_c(out, '-');
    }
    while (out->len > 0 && out->str[out->len - 1] == '-')
        g_string_truncate(out, out->len - 1);
    return g_string_free(out, out->len == 0);
}

/* "/images/Web_01.vmdk" gives "Web-01". */
static char *name_from(const char *path)
{
    g_autofree char *base = g_path_get_basename(path);
    char *dot = strrchr(base, '.');
    if (dot && dot != base)
        *dot = '\0';
    return drover_vm_name_from(base);
}

static bool at(char **where, char *place)
{
    if (where)
        *where = place;
    else
        g_free(place);
    return false;
}

static bool check_pairs(GStrv pairs, const char *name, char **where, GError **error)
{
    for (guint i = 0; pairs && pairs[i]; i++) {
        const char *equals = strchr(pairs[i], '=');
        if (!equals || equals == pairs[i]) {
            drover_fail(error, DROVER_ERROR_PERMANENT, "'%s' is not key=value", pairs[i]);
            return at(where, g_strdup_printf("%s[%u]", name, i));
        }
    }
    return true;
}

static bool check_disks(const DroverRequest *request, char **where, GError **error)
{
    if (request->disks->len == 0 || request->disks->len > MAX_DISKS) {
        drover_fail(error, DROVER_ERROR_PERMANENT, "%u disks; a job has 1 to %d", request->disks->len, MAX_DISKS);
        return at(where, g_strdup("disks"));
    }
    g_autoptr(GHashTable) ids = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GHashTable) places = g_hash_table_new(g_str_hash, g_str_equal);
    const DroverSource *vm = NULL;
    for (guint i = 0; i < request->disks->len; i++) {
        const DroverSource *d = disk_at(request, i);
        g_autofree char *id = d->disk_id ? g_strdup(d->disk_id) : g_strdup_printf("disk%u", i);
        if (!g_hash_table_add(ids, g_strdup(id))) {
            drover_fail(error, DROVER_ERROR_PERMANENT, "two disks of the job have the id '%s'", id);
            return at(where, g_strdup_printf("disks[%u].id", i));
        }
        if (d->kind == DROVER_SOURCE_VSPHERE) {
            if (vm && (strcmp(vm->vcenter, d->vcenter) != 0 || strcmp(vm->vm_moref, d->vm_moref) != 0)) {
                drover_fail(error, DROVER_ERROR_PERMANENT,
                            "the disks of a job are those of one VM; the first is of %s in %s", vm->vm_moref, vm->vcenter);
                return at(where, g_strdup_printf("disks[%u].source", i));
            }
            vm = d;
        }
        if (!g_hash_table_add(places, d->path_or_uri)) {
            drover_fail(error, DROVER_ERROR_PERMANENT, "'%s' is the source of two disks of the job", d->path_or_uri);
            return at(where, g_strdup_printf("disks[%u].source", i));
        }
    }
    return true;
}

static bool check_words(const DroverRequest *r, char **where, GError **error)
{
    static const char *const digests[] = {"none", "xxh3", "sha256", NULL};
    if (!drover_id_is_valid(r->job_id)) {
        drover_fail(error, DROVER_ERROR_PERMANENT, "job id '%s' is not 1 to 64 of letters, digits, '.', '_', '-'",
                    r->job_id);
        return at(where, g_strdup("job_id"));
    }
    if (!drover_vm_name_is_valid(r->name)) {
        drover_fail(error, DROVER_ERROR_PERMANENT,
                    "name '%s' is no host name for CloudStack: 1 to 63 of letters, digits, '-', a letter first, no '-' last",
                    r->name);
        return at(where, g_strdup("name"));
    }
    if (r->digest && !g_strv_contains(digests, r->digest)) {
        drover_fail(error, DROVER_ERROR_PERMANENT, "digest '%s' is none of xxh3, sha256, none", r->digest);
        return at(where, g_strdup("digest"));
    }
    static const char *const powers[] = {"ask", "force", "manual", NULL};
    if (r->source_policy.power && !g_strv_contains(powers, r->source_policy.power)) {
        drover_fail(error, DROVER_ERROR_PERMANENT, "power '%s' is none of ask, force, manual", r->source_policy.power);
        return at(where, g_strdup("source_policy.power"));
    }
    if (r->site && *r->site && !drover_site_is_valid(r->site)) {
        drover_fail(error, DROVER_ERROR_PERMANENT, "site '%s' is not 1 to 40 of a-z, 0-9, '-'", r->site);
        return at(where, g_strdup("source_site"));
    }
    if (r->agent && *r->agent && !drover_site_is_valid(r->agent)) {
        drover_fail(error, DROVER_ERROR_PERMANENT, "agent '%s' is not 1 to 40 of a-z, 0-9, '-'", r->agent);
        return at(where, g_strdup("target.agent"));
    }
    return true;
}

bool drover_request_complete(DroverRequest *request, char **where, GError **error)
{
    if (!request->job_id || !*request->job_id) {
        g_free(request->job_id);
        request->job_id = drover_id_new("mig-");
    }
    if (!check_disks(request, where, error))
        return false;
    if (!request->name && disk_at(request, 0)->kind == DROVER_SOURCE_FILE)
        request->name = name_from(disk_at(request, 0)->path_or_uri);
    if (!request->name) {
        drover_fail(error, DROVER_ERROR_PERMANENT, "the VM needs a name, and the source gives none");
        return at(where, g_strdup("name"));
    }
    return check_words(request, where, error) && check_pairs(request->labels, "labels", where, error) &&
           check_pairs(request->details, "target.details", where, error);
}

/* ---- files on this machine ------------------------------------------------------------------------------------ */

static void look_at(DroverSource *d)
{
    char head[64];
    int fd = open(d->path_or_uri, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        g_printerr("Note: %s cannot be read here (%s); the workers of the source site look for it under the same path\n",
                   d->path_or_uri, g_strerror(errno));
        return;
    }
    struct stat st;
    ssize_t n = pread(fd, head, sizeof head, 0);
    bool regular = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    close(fd);
    if (n < 0 || !regular)
        return;
    const char *found = drover_source_probe(head, (size_t)n);
    if (!d->format && found)
        d->format = g_strdup(found);
    /* A raw image has nothing in it that would tell that its end is missing. */
    if (!d->expected_size_bytes && (d->format ? strcmp(d->format, "raw") == 0 : !found))
        d->expected_size_bytes = (uint64_t)st.st_size;
}

void drover_request_look(DroverRequest *request)
{
    for (guint i = 0; i < request->disks->len; i++) {
        DroverSource *d = &g_array_index(request->disks, DroverSource, i);
        if (d->kind == DROVER_SOURCE_FILE)
            look_at(d);
    }
}

/* ---- the message ---------------------------------------------------------------------------------------------- */

static char *text(const char *value)
{
    return (char *)(value ? value : protobuf_c_empty_string);
}

typedef struct {
    Drover__V1__DiskSpec spec;
    Drover__V1__DiskSource source;
    Drover__V1__FileSource file;
    Drover__V1__NbdSource nbd;
    Drover__V1__VsphereSource vsphere;
} DiskMessage;

static void fill_disk(DiskMessage *m, const DroverSource *d)
{
    drover__v1__disk_spec__init(&m->spec);
    drover__v1__disk_source__init(&m->source);
    m->spec.source = &m->source;
    m->spec.disk_id = text(d->disk_id);
    m->spec.name = text(d->volume_name);
    m->spec.disk_offering = text(d->disk_offering);
    if (d->target_size_bytes) {
        m->spec.target_size_case = DROVER__V1__DISK_SPEC__TARGET_SIZE_TARGET_SIZE_BYTES;
        m->spec.target_size_bytes = d->target_size_bytes;
    }
    if (d->kind == DROVER_SOURCE_NBD) {
        drover__v1__nbd_source__init(&m->nbd);
        m->nbd.uri = d->path_or_uri;
        m->nbd.dirty_bitmap = text(d->bitmap);
        m->nbd.frozen = d->frozen;
        m->source.kind_case = DROVER__V1__DISK_SOURCE__KIND_NBD;
        m->source.nbd = &m->nbd;
        return;
    }
    if (d->kind == DROVER_SOURCE_VSPHERE) {
        drover__v1__vsphere_source__init(&m->vsphere);
        m->vsphere.vcenter = d->vcenter;
        m->vsphere.vm_moref = d->vm_moref;
        m->vsphere.vm_uuid = text(d->vm_uuid);
        m->vsphere.disk_key = d->disk_key;
        m->source.kind_case = DROVER__V1__DISK_SOURCE__KIND_VSPHERE;
        m->source.vsphere = &m->vsphere;
        return;
    }
    drover__v1__file_source__init(&m->file);
    m->file.path = d->path_or_uri;
    m->file.format = text(d->format);
    m->file.expected_sha256 = text(d->sha256);
    if (d->expected_size_bytes) {
        m->file.expected_size_case = DROVER__V1__FILE_SOURCE__EXPECTED_SIZE_EXPECTED_SIZE_BYTES;
        m->file.expected_size_bytes = d->expected_size_bytes;
    }
    m->source.kind_case = DROVER__V1__DISK_SOURCE__KIND_FILE;
    m->source.file = &m->file;
}

static Drover__V1__DigestAlgorithm digest_number(const char *name)
{
    if (g_strcmp0(name, "none") == 0)
        return DROVER__V1__DIGEST_ALGORITHM__DIGEST_ALGORITHM_NONE;
    if (g_strcmp0(name, "sha256") == 0)
        return DROVER__V1__DIGEST_ALGORITHM__DIGEST_ALGORITHM_SHA256;
    return DROVER__V1__DIGEST_ALGORITHM__DIGEST_ALGORITHM_XXH3;
}

static void fill_policy(Drover__V1__SourcePolicy *p, const DroverSourcePolicy *policy)
{
    p->crash_consistent = policy->crash_consistent;
    p->keep_source_on = policy->keep_source_on;
    p->shutdown_timeout_ms = policy->shutdown_timeout_ms;
    p->snapshot_max_age_ms = policy->snapshot_max_age_ms;
    if (g_strcmp0(policy->power, "ask") == 0)
        p->power = DROVER__V1__POWER_POLICY__POWER_POLICY_ASK;
    else if (g_strcmp0(policy->power, "force") == 0)
        p->power = DROVER__V1__POWER_POLICY__POWER_POLICY_FORCE;
    else if (g_strcmp0(policy->power, "manual") == 0)
        p->power = DROVER__V1__POWER_POLICY__POWER_POLICY_MANUAL;
}

static void fill_target(Drover__V1__TargetSpec *t, const DroverRequest *r)
{
    t->agent = text(r->agent);
    t->zone = text(r->zone);
    t->service_offering = text(r->service_offering);
    t->template_id = text(r->template_id);
    t->os_type = text(r->os_type);
    t->account = text(r->account);
    t->domain_id = text(r->domain);
    t->project_id = text(r->project);
    t->boot_type = text(r->boot_type);
    t->boot_mode = text(r->boot_mode);
    t->network_ids = r->networks;
    t->n_network_ids = r->networks ? g_strv_length(r->networks) : 0;
}

/* Calls ADD with key and value of each "key=value"; both live as long as the pool. */
static void split_pair(const char *pair, GPtrArray *pool, char **key, char **value)
{
    const char *equals = strchr(pair, '=');
    *key = g_strndup(pair, (gsize)(equals - pair));
    *value = g_strdup(equals + 1);
    g_ptr_array_add(pool, *key);
    g_ptr_array_add(pool, *value);
}

static void fill_labels(Drover__V1__JobSpec *spec, GStrv pairs, GPtrArray *pool)
{
    guint n = pairs ? g_strv_length(pairs) : 0;
    Drover__V1__JobSpec__LabelsEntry **list = g_new0(Drover__V1__JobSpec__LabelsEntry *, n + 1);
    g_ptr_array_add(pool, list);
    for (guint i = 0; i < n; i++) {
        list[i] = g_new(Drover__V1__JobSpec__LabelsEntry, 1);
        g_ptr_array_add(pool, list[i]);
        drover__v1__job_spec__labels_entry__init(list[i]);
        split_pair(pairs[i], pool, &list[i]->key, &list[i]->value);
    }
    spec->labels = list;
    spec->n_labels = n;
}

static void fill_details(Drover__V1__TargetSpec *target, GStrv pairs, GPtrArray *pool)
{
    guint n = pairs ? g_strv_length(pairs) : 0;
    Drover__V1__TargetSpec__DetailsEntry **list = g_new0(Drover__V1__TargetSpec__DetailsEntry *, n + 1);
    g_ptr_array_add(pool, list);
    for (guint i = 0; i < n; i++) {
        list[i] = g_new(Drover__V1__TargetSpec__DetailsEntry, 1);
        g_ptr_array_add(pool, list[i]);
        drover__v1__target_spec__details_entry__init(list[i]);
        split_pair(pairs[i], pool, &list[i]->key, &list[i]->value);
    }
    target->details = list;
    target->n_details = n;
}

void drover_request_target(const DroverRequest *r, Drover__V1__TargetSpec *target, GPtrArray *pool)
{
    fill_target(target, r);
    fill_details(target, r->details, pool);
}

bool drover_request_submit(DroverSession *session, const DroverRequest *r, GError **error)
{
    Drover__V1__JobCommand command = DROVER__V1__JOB_COMMAND__INIT;
    Drover__V1__JobSpec spec = DROVER__V1__JOB_SPEC__INIT;
    Drover__V1__TargetSpec target = DROVER__V1__TARGET_SPEC__INIT;
    Drover__V1__SourcePolicy policy = DROVER__V1__SOURCE_POLICY__INIT;
    g_autoptr(GPtrArray) pool = g_ptr_array_new_with_free_func(g_free);
    g_autofree DiskMessage *disks = g_new0(DiskMessage, r->disks->len);
    g_autofree Drover__V1__DiskSpec **list = g_new0(Drover__V1__DiskSpec *, r->disks->len);
    for (guint i = 0; i < r->disks->len; i++) {
        fill_disk(&disks[i], disk_at(r, i));
        list[i] = &disks[i].spec;
    }
    drover_request_target(r, &target, pool);
    fill_labels(&spec, r->labels, pool);
    spec.name = r->name;
    spec.disks = list;
    spec.n_disks = r->disks->len;
    spec.source_site = text(r->site);
    spec.target = &target;
    fill_policy(&policy, &r->source_policy);
    spec.source_policy = &policy;
    spec.deep_verify_before_cutover = r->deep_verify;
    spec.failover = r->failover;
    spec.digest = digest_number(r->digest);
    spec.bandwidth_limit_bytes_per_second = r->bandwidth_limit;
    spec.range_bytes = r->range_bytes;
    spec.round_interval_ms = r->round_interval_ms;
    spec.priority = r->priority;
    command.job_id = r->job_id;
    command.command_case = DROVER__V1__JOB_COMMAND__COMMAND_SUBMIT;
    command.submit = &spec;
    return drover_send(session, &command, error);
}
