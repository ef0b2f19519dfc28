/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/job-file.h"

#include <cyaml/cyaml.h>
#include <string.h>

#include "cli/yaml-places.h"
#include "lib/base/config.h"
#include "lib/base/error.h"

/* ---- shape of the file ---------------------------------------------------------------------------------------- */

typedef struct {
    char *source, *key, *format, *size, *sha256, *id, *name, *offering, *target_size;
} FileDisk;

typedef struct {
    char *agent, *zone, *service_offering, *template_id, *os_type, *account, *domain, *project, *boot_type, *boot_mode;
    char **networks;
    unsigned networks_count;
    char **details;
    unsigned details_count;
} FileTarget;

typedef struct {
    char *vcenter, *moref, *uuid;
} FileVm;

typedef struct {
    char *crash_consistent, *power, *shutdown_timeout, *snapshot_max_age, *keep_source_on;
} FilePolicy;

typedef struct {
    char *job_id, *name, *source_site, *digest, *failover, *bandwidth_limit, *range_size, *round_interval, *priority;
    char *deep_verify;
    FileVm *vm;
    FilePolicy *source_policy;
    char **labels;
    unsigned labels_count;
    FileTarget *target;
    FileDisk *disks;
    unsigned disks_count;
} File;

#define TEXT(key, type, member)                                                                                       \
    CYAML_FIELD_STRING_PTR(key, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, type, member, 1, 4096)
#define LIST(key, type, member)                                                                                       \
    CYAML_FIELD_SEQUENCE(key, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, type, member, &text_schema, 0, 1000)

static const cyaml_schema_value_t text_schema = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char *, 1, 4096)};

static const cyaml_schema_field_t disk_fields[] = {
    TEXT("source", FileDisk, source),
    TEXT("key", FileDisk, key),
    TEXT("format", FileDisk, format),
    TEXT("size", FileDisk, size),
    TEXT("sha256", FileDisk, sha256),
    TEXT("id", FileDisk, id),
    TEXT("name", FileDisk, name),
    TEXT("offering", FileDisk, offering),
    TEXT("target_size", FileDisk, target_size),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t disk_schema = {CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, FileDisk, disk_fields)};

static const cyaml_schema_field_t target_fields[] = {
    TEXT("agent", FileTarget, agent),
    TEXT("zone", FileTarget, zone),
    TEXT("service_offering", FileTarget, service_offering),
    TEXT("template", FileTarget, template_id),
    TEXT("os_type", FileTarget, os_type),
    TEXT("account", FileTarget, account),
    TEXT("domain", FileTarget, domain),
    TEXT("project", FileTarget, project),
    TEXT("boot_type", FileTarget, boot_type),
    TEXT("boot_mode", FileTarget, boot_mode),
    LIST("networks", FileTarget, networks),
    LIST("details", FileTarget, details),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t vm_fields[] = {
    CYAML_FIELD_STRING_PTR("vcenter", CYAML_FLAG_POINTER, FileVm, vcenter, 1, 4096),
    CYAML_FIELD_STRING_PTR("moref", CYAML_FLAG_POINTER, FileVm, moref, 1, 4096),
    TEXT("uuid", FileVm, uuid),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t policy_fields[] = {
    TEXT("crash_consistent", FilePolicy, crash_consistent),
    TEXT("power", FilePolicy, power),
    TEXT("shutdown_timeout", FilePolicy, shutdown_timeout),
    TEXT("snapshot_max_age", FilePolicy, snapshot_max_age),
    TEXT("keep_source_on", FilePolicy, keep_source_on),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t file_fields[] = {
    TEXT("job_id", File, job_id),
    TEXT("name", File, name),
    TEXT("source_site", File, source_site),
    TEXT("digest", File, digest),
    TEXT("failover", File, failover),
    TEXT("bandwidth_limit", File, bandwidth_limit),
    TEXT("range_size", File, range_size),
    TEXT("round_interval", File, round_interval),
    TEXT("priority", File, priority),
    TEXT("deep_verify_before_cutover", File, deep_verify),
    LIST("labels", File, labels),
    CYAML_FIELD_MAPPING_PTR("target", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, File, target, target_fields),
    CYAML_FIELD_MAPPING_PTR("vm", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, File, vm, vm_fields),
    CYAML_FIELD_MAPPING_PTR("source_policy", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, File, source_policy, policy_fields),
    CYAML_FIELD_SEQUENCE("disks", CYAML_FLAG_POINTER, File, disks, &disk_schema, 1, 64),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t file_schema = {CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, File, file_fields)};

/* ---- messages ------------------------------------------------------------------------------------------------- */

typedef struct {
    const char *name;
    GArray *places;
} Where;

static bool wrong(const Where *where, const char *path, const char *message, GError **error)
{
    guint line = drover_yaml_line(where->places, path);
    if (line)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "%s, line %u, %s: %s", where->name, line, path, message);
    return drover_fail(error, DROVER_ERROR_PERMANENT, "%s: %s%s%s", where->name, path, *path ? ": " : "", message);
}

/* "source, format, …" */
static char *known_keys(const cyaml_schema_field_t *fields)
{
    GString *out = g_string_new(NULL);
    for (; fields->key; fields++)
        g_string_append_printf(out, "%s%s", out->len ? ", " : "", fields->key);
    return g_string_free(out, FALSE);
}

static bool has_key(const cyaml_schema_field_t *fields, const char *key)
{
    for (; fields->key; fields++)
        if (strcmp(fields->key, key) == 0)
            return true;
    return false;
}

/* The parser names the line of what stands before an unknown key; this names the key's own. */
static bool check_keys(const Where *where, GError **error)
{
    for (guint i = 0; i < where->places->len; i++) {
        const char *path = g_array_index(where->places, DroverYamlPlace, i).path;
        const char *key = strrchr(path, '.');
        const cyaml_schema_field_t *fields = NULL;
        if (!key && !strchr(path, '['))
            fields = file_fields;
        else if (key && g_str_has_prefix(path, "target.") && path + strlen("target") == key)
            fields = target_fields;
        else if (key && g_str_has_prefix(path, "vm.") && path + strlen("vm") == key)
            fields = vm_fields;
        else if (key && g_str_has_prefix(path, "source_policy.") && path + strlen("source_policy") == key)
            fields = policy_fields;
        else if (key && g_str_has_prefix(path, "disks[") && strchr(path, '.') == key)
            fields = disk_fields;
        key = key ? key + 1 : path;
        if (!fields || strchr(key, '[') || has_key(fields, key))
            continue;
        g_autofree char *known = known_keys(fields);
        g_autofree char *message = g_strdup_printf("unknown key; there are %s", known);
        return wrong(where, path, message, error);
    }
    return true;
}

static void keep_message(cyaml_log_t level, void *ctx, const char *format, va_list args)
{
    (void)level;
    g_string_append_vprintf(ctx, format, args);
}

/* From cyaml's lines "Load: why", "Load: Backtrace:", "  in mapping field 'x' (line: 3, column: 9)", … */
static bool explain(const Where *where, const char *messages, cyaml_err_t code, GError **error)
{
    g_auto(GStrv) lines = g_strsplit(messages, "\n", -1);
    const char *why = cyaml_strerror(code);
    guint64 line = 0;
    GString *path = g_string_new(NULL);
    for (char **l = lines; *l; l++) {
        const char *at = strstr(*l, "(line: ");
        if (at && line == 0)
            line = g_ascii_strtoull(at + strlen("(line: "), NULL, 10);
        const char *field = strstr(*l, "in mapping field '");
        const char *entry = strstr(*l, "in sequence entry '");
        const char *text = field ? field + strlen("in mapping field '") : entry ? entry + strlen("in sequence entry '") : NULL;
        const char *end = text ? strchr(text, '\'') : NULL;
        if (end) {
            g_autofree char *word = g_strndup(text, (gsize)(end - text));
            g_autofree char *piece = field ? g_strdup(word) : g_strdup_printf("[%" G_GINT64_FORMAT "]",
                                                                              g_ascii_strtoll(word, NULL, 10) - 1);
            if (path->len && path->str[0] != '[')
                g_string_prepend(path, ".");
            if (!g_str_equal(piece, "[-1]")) /* before the first entry */
                g_string_prepend(path, piece);
        } else if (g_str_has_prefix(*l, "Load: ") && !strstr(*l, "Backtrace")) {
            why = *l + strlen("Load: ");
        }
    }
    /* The field that the backtrace begins with is the last one read, not the missing one. */
    bool missing = g_str_has_prefix(why, "Missing");
    drover_fail(error, DROVER_ERROR_PERMANENT, "%s, line %" G_GUINT64_FORMAT "%s%s: %s", where->name, MAX(line, 1),
                missing || !path->len ? "" : ", ", missing ? "" : path->str, why);
    g_string_free(path, TRUE);
    return false;
}

/* ---- values --------------------------------------------------------------------------------------------------- */

static bool read_size(const Where *where, const char *path, const char *text, uint64_t *out, GError **error)
{
    g_autoptr(GError) why = NULL;
    return !text || drover_parse_size(text, out, &why) || wrong(where, path, why->message, error);
}

static bool read_time(const Where *where, const char *path, const char *text, uint64_t *out, GError **error)
{
    g_autoptr(GError) why = NULL;
    return !text || drover_parse_duration(text, out, &why) || wrong(where, path, why->message, error);
}

static bool read_flag(const Where *where, const char *path, const char *text, bool *out, GError **error)
{
    static const char *const yes[] = {"true", "yes", "on", NULL}, *const no[] = {"false", "no", "off", NULL};
    if (!text)
        return true;
    g_autofree char *lower = g_ascii_strdown(text, -1);
    *out = g_strv_contains(yes, lower);
    return *out || g_strv_contains(no, lower) || wrong(where, path, "expected true or false", error);
}

static bool read_priority(const Where *where, const char *text, uint32_t *out, GError **error)
{
    guint64 n = 0;
    if (text && !g_ascii_string_to_unsigned(text, 10, 0, 1000000, &n, NULL))
        return wrong(where, "priority", "expected a whole number from 0 to 1000000; larger goes first", error);
    *out = (uint32_t)n;
    return true;
}

static char *escape_commas(const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, ",", -1);
    return g_strjoinv(",,", parts);
}

/* The source of a disk as text: its own, or disk KEY of the job's VM. NULL with an error. */
static char *source_text(const Where *where, guint i, const File *file, GError **error)
{
    const FileDisk *d = &file->disks[i];
    g_autofree char *at = g_strdup_printf("disks[%u]", i);
    if (d->source && !d->key)
        return g_strdup(d->source);
    if (d->key && !d->source && file->vm)
        return g_strdup_printf("vsphere:%s/%s/%s%s%s", file->vm->vcenter, file->vm->moref, d->key,
                               file->vm->uuid ? ",uuid=" : "", file->vm->uuid ? file->vm->uuid : "");
    wrong(where, at,
          d->key && d->source ? "it has a source and a key; a key is that of a disk of the job's vm"
          : d->key            ? "a key is that of a disk of the job's vm, and the job has no vm"
                              : "it has no source: write source: file:/PATH, or the key of a disk of the job's vm",
          error);
    return NULL;
}

/* A disk's keys are those of its text form, so one parser reads both. */
static bool read_disk(const Where *where, guint i, const File *file, DroverRequest *request, GError **error)
{
    const FileDisk *d = &file->disks[i];
    g_autofree char *text = source_text(where, i, file, error);
    if (!text)
        return false;
    const struct {
        const char *key, *text_key, *value;
    } extras[] = {{"format", "format", d->format},
                  {"size", "size", d->size},
                  {"sha256", "sha256", d->sha256},
                  {"id", "id", d->id},
                  {"name", "name", d->name},
                  {"offering", "offering", d->offering},
                  {"target_size", "target-size", d->target_size}};
    DroverSource source = {0};
    g_autoptr(GError) why = NULL;
    if (!drover_source_parse(text, &source, &why)) {
        g_autofree char *path = g_strdup_printf("disks[%u].%s", i, d->source ? "source" : "key");
        return wrong(where, path, why->message, error);
    }
    drover_source_clear(&source);
    for (guint k = 0; k < G_N_ELEMENTS(extras); k++) {
        if (!extras[k].value)
            continue;
        g_autofree char *path = g_strdup_printf("disks[%u].%s", i, extras[k].key);
        g_autofree char *value = escape_commas(extras[k].value);
        g_autofree char *longer = g_strdup_printf("%s,%s=%s", text, extras[k].text_key, value);
        source = (DroverSource){0};
        if (!drover_source_parse(longer, &source, &why)) {
            /* "source '…': key: reason", of which line and path say the first two. */
            g_autofree char *lead = g_strdup_printf("source '%s': %s: ", longer, extras[k].text_key);
            bool known = g_str_has_prefix(why->message, lead);
            return wrong(where, path, why->message + (known ? strlen(lead) : 0), error);
        }
        drover_source_clear(&source);
        g_free(text);
        text = g_steal_pointer(&longer);
    }
    if (!drover_source_parse(text, &source, error))
        return false;
    g_array_append_val(request->disks, source);
    return true;
}

static GStrv copy_list(char **list, unsigned count)
{
    GStrv out = g_new0(char *, count + 1);
    for (unsigned i = 0; i < count; i++)
        out[i] = g_strdup(list[i]);
    return out;
}

static void read_target(const FileTarget *t, DroverRequest *r)
{
    r->agent = g_strdup(t->agent);
    r->zone = g_strdup(t->zone);
    r->service_offering = g_strdup(t->service_offering);
    r->template_id = g_strdup(t->template_id);
    r->os_type = g_strdup(t->os_type);
    r->account = g_strdup(t->account);
    r->domain = g_strdup(t->domain);
    r->project = g_strdup(t->project);
    r->boot_type = g_strdup(t->boot_type);
    r->boot_mode = g_strdup(t->boot_mode);
    r->networks = copy_list(t->networks, t->networks_count);
    r->details = copy_list(t->details, t->details_count);
}

static bool read_policy(const Where *where, const FilePolicy *p, DroverSourcePolicy *out, GError **error)
{
    out->power = g_strdup(p->power);
    return read_flag(where, "source_policy.crash_consistent", p->crash_consistent, &out->crash_consistent, error) &&
           read_flag(where, "source_policy.keep_source_on", p->keep_source_on, &out->keep_source_on, error) &&
           read_time(where, "source_policy.shutdown_timeout", p->shutdown_timeout, &out->shutdown_timeout_ms, error) &&
           read_time(where, "source_policy.snapshot_max_age", p->snapshot_max_age, &out->snapshot_max_age_ms, error);
}

static bool read_file(const Where *where, const File *file, DroverRequest *r, GError **error)
{
    r->job_id = g_strdup(file->job_id);
    r->name = g_strdup(file->name);
    r->site = g_strdup(file->source_site);
    r->digest = g_strdup(file->digest);
    r->labels = copy_list(file->labels, file->labels_count);
    if (file->target)
        read_target(file->target, r);
    bool ok = read_flag(where, "failover", file->failover, &r->failover, error) &&
              read_size(where, "bandwidth_limit", file->bandwidth_limit, &r->bandwidth_limit, error) &&
              read_size(where, "range_size", file->range_size, &r->range_bytes, error) &&
              read_time(where, "round_interval", file->round_interval, &r->round_interval_ms, error) &&
              read_flag(where, "deep_verify_before_cutover", file->deep_verify, &r->deep_verify, error) &&
              (!file->source_policy || read_policy(where, file->source_policy, &r->source_policy, error)) &&
              read_priority(where, file->priority, &r->priority, error);
    for (unsigned i = 0; ok && i < file->disks_count; i++)
        ok = read_disk(where, i, file, r, error);
    if (!ok)
        return false;
    g_autoptr(GError) why = NULL;
    g_autofree char *path = NULL;
    return drover_request_complete(r, &path, &why) || wrong(where, path, why->message, error);
}

bool drover_job_file_parse(const char *name, const char *text, DroverRequest *request, GError **error)
{
    g_autoptr(GArray) places = drover_yaml_places(text);
    Where where = {name, places};
    if (!check_keys(&where, error))
        return false;
    g_autoptr(GString) messages = g_string_new(NULL);
    cyaml_config_t config = {
        .log_fn = keep_message, .log_ctx = messages, .mem_fn = cyaml_mem, .log_level = CYAML_LOG_ERROR};
    File *file = NULL;
    cyaml_err_t code = cyaml_load_data((const uint8_t *)text, strlen(text), &config, &file_schema,
                                       (cyaml_data_t **)&file, NULL);
    if (code != CYAML_OK)
        return explain(&where, messages->str, code, error);
    if (!file)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "%s is empty; docs/examples/job.yaml shows what belongs there",
                           name);
    bool ok = read_file(&where, file, request, error);
    cyaml_free(&config, &file_schema, file, 0);
    return ok;
}
