/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/config.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/log.h"

#define DEFAULT_FILE "/etc/drover/drover.conf"

const DroverOption drover_fleet_options[] = {
    {"kafka", "brokers", DROVER_OPTION_STRING, "127.0.0.1:9092", "HOST:PORT,...", "Kafka brokers to start from", 0},
    {"kafka", "topic-prefix", DROVER_OPTION_STRING, "drover", "PREFIX",
     "First word of all topic, group and transactional names", 0},
    {"kafka", "properties", DROVER_OPTION_STRING, NULL, "FILE",
     "More librdkafka properties, one key=value a line (TLS files, SASL); keep it readable to Drover only", 0},
    {"kafka", "session-timeout", DROVER_OPTION_DURATION, "10s", "TIME",
     "A group member that is silent this long loses its partitions", 0},
    {"kafka", "transaction-timeout", DROVER_OPTION_DURATION, "10s", "TIME",
     "The broker aborts a transaction that is open this long", 0},
    {"fleet", "sites", DROVER_OPTION_LIST, "site-1", "NAME,...", "Sites whose workers read sources", 0},
    {"fleet", "agents", DROVER_OPTION_LIST, "appliance-1", "NAME,...", "Volume agents, one per appliance VM", 0},
    DROVER_OPTION_END,
};

static const DroverOption log_options[] = {
    {"log", "format", DROVER_OPTION_STRING, "auto", "auto|text|json", "How log lines look on standard error", 0},
    {"log", "level", DROVER_OPTION_STRING, "info", "debug|info|warning|error", "The least important lines to show", 0},
    DROVER_OPTION_END,
};

typedef struct {
    const DroverOption *option;
    char *key;      /* section.name */
    char *text;     /* NULL: unset */
    bool given;     /* not merely the default */
    bool from_flag; /* repeated list flags add up */
    char *origin;
    int64_t number;
    char **list;
} Value;

struct DroverConfig {
    GPtrArray *values; /* Value */
    GHashTable *by_key;
};

static void value_free(gpointer data)
{
    Value *v = data;
    g_free(v->key);
    g_free(v->text);
    g_free(v->origin);
    g_strfreev(v->list);
    g_free(v);
}

void drover_config_free(DroverConfig *config)
{
    if (!config)
        return;
    g_hash_table_unref(config->by_key);
    g_ptr_array_unref(config->values);
    g_free(config);
}

/* ---- values --------------------------------------------------------------------------------------------------- */

static bool parse_scaled(const char *text, const char *const *units, const uint64_t *factors, const char *accepted,
                         uint64_t *out, GError **error)
{
    char *end = NULL;
    if (!g_ascii_isdigit(text[0]))
        return drover_fail(error, DROVER_ERROR_PERMANENT, "'%s' is not %s", text, accepted);
    guint64 n = g_ascii_strtoull(text, &end, 10);
    for (size_t i = 0; units[i]; i++) {
        if (g_ascii_strcasecmp(end, units[i]) != 0)
            continue;
        if (n > (uint64_t)INT64_MAX / factors[i])
            return drover_fail(error, DROVER_ERROR_PERMANENT, "'%s' is too large", text);
        *out = n * factors[i];
        return true;
    }
    return drover_fail(error, DROVER_ERROR_PERMANENT, "'%s' is not %s", text, accepted);
}

bool drover_parse_size(const char *text, uint64_t *bytes, GError **error)
{
    static const char *const units[] = {"", "B", "K", "KiB", "M", "MiB", "G", "GiB", "T", "TiB", NULL};
    static const uint64_t factors[] = {1, 1, 1u << 10, 1u << 10, 1u << 20, 1u << 20, 1u << 30, 1u << 30,
                                       UINT64_C(1) << 40, UINT64_C(1) << 40};
    return parse_scaled(text, units, factors, "a size (a number of bytes, or with K, M, G, T as powers of 1024)", bytes,
                        error);
}

bool drover_parse_duration(const char *text, uint64_t *ms, GError **error)
{
    static const char *const units[] = {"", "ms", "s", "m", "h", NULL};
    static const uint64_t factors[] = {1, 1, 1000, 60000, 3600000};
    return parse_scaled(text, units, factors, "a time (milliseconds, or with ms, s, m, h)", ms, error);
}

static bool parse_bool(const char *text, int64_t *out, GError **error)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};
    for (guint i = 0; i < G_N_ELEMENTS(words); i++) {
        if (g_ascii_strcasecmp(text, words[i]) == 0) {
            *out = i % 2;
            return true;
        }
    }
    return drover_fail(error, DROVER_ERROR_PERMANENT, "'%s' is not true or false", text);
}

static const char *separator(const DroverOption *option)
{
    return option->type == DROVER_OPTION_REPEATED ? "\n" : ",";
}

static char **split_list(const char *text, const char *at)
{
    g_auto(GStrv) parts = g_strsplit(text, at, -1);
    g_autoptr(GPtrArray) out = g_ptr_array_new();
    for (char **p = parts; *p; p++) {
        g_strstrip(*p);
        if (**p)
            g_ptr_array_add(out, g_strdup(*p));
    }
    g_ptr_array_add(out, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&out), FALSE);
}

static bool value_finish(Value *v, GError **error)
{
    const DroverOption *o = v->option;
    const char *text = v->text ? v->text : "";
    g_autoptr(GError) why = NULL;
    uint64_t number = 0;
    bool ok = true;
    if ((o->flags & DROVER_OPTION_REQUIRED) && !*text) {
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "%s.%s is not set: give [%s] %s in the configuration file%s", o->section, o->name, o->section,
                           o->name, o->flags & DROVER_OPTION_SECRET ? " or the environment" : ", the environment or a flag");
    }
    v->list = split_list(text, separator(o));
    if (!*text)
        return true;
    switch (o->type) {
    case DROVER_OPTION_INT: {
        gint64 n = 0;
        ok = g_ascii_string_to_signed(text, 10, 0, G_MAXINT64, &n, NULL);
        if (!ok)
            drover_fail(&why, DROVER_ERROR_PERMANENT, "'%s' is not a whole number", text);
        number = (uint64_t)n;
        break;
    }
    case DROVER_OPTION_SIZE:
        ok = drover_parse_size(text, &number, &why);
        break;
    case DROVER_OPTION_DURATION:
        ok = drover_parse_duration(text, &number, &why);
        break;
    case DROVER_OPTION_BOOL: {
        int64_t n = 0;
        ok = parse_bool(text, &n, &why);
        number = (uint64_t)n;
        break;
    }
    case DROVER_OPTION_STRING:
    case DROVER_OPTION_LIST:
    case DROVER_OPTION_REPEATED:
        break;
    }
    if (!ok)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "%s: %s", v->origin ? v->origin : v->key, why->message);
    v->number = (int64_t)number;
    return true;
}

static void value_set(Value *v, const char *text, const char *origin, bool from_flag)
{
    bool adds_up = v->option->type == DROVER_OPTION_LIST || v->option->type == DROVER_OPTION_REPEATED;
    if (from_flag && v->from_flag && adds_up) {
        char *joined = g_strconcat(v->text, separator(v->option), text, NULL);
        g_free(v->text);
        v->text = joined;
        return;
    }
    g_free(v->text);
    g_free(v->origin);
    v->text = g_strdup(text);
    v->origin = g_strdup(origin);
    v->given = true;
    v->from_flag = from_flag;
}

/* ---- names ---------------------------------------------------------------------------------------------------- */

static char *flag_name(const DroverOption *o)
{
    return *o->section ? g_strconcat(o->section, "-", o->name, NULL) : g_strdup(o->name);
}

static char *environment_name(const DroverOption *o)
{
    g_autofree char *flag = flag_name(o);
    g_autofree char *upper = g_ascii_strup(flag, -1);
    g_strdelimit(upper, "-", '_');
    return g_strconcat("DROVER_", upper, NULL);
}

static const char *file_section(const DroverOption *o)
{
    return *o->section ? o->section : "drover";
}

/* ---- help ----------------------------------------------------------------------------------------------------- */

static void print_help(const DroverConfig *config, const char *program, const char *synopsis, const char *description)
{
    g_print("Usage: %s [options]%s%s\n\n%s\n\n", program, *synopsis ? " " : "", synopsis, description);
    g_print("Each option can stand in the configuration file, the environment or on the command line;\n"
            "the last of these wins.\n\nOptions:\n"
            "  --config=FILE\n      Configuration file (DROVER_CONFIG; " DEFAULT_FILE " if it exists)\n"
            "  --help, --version\n");
    for (guint i = 0; i < config->values->len; i++) {
        const DroverOption *o = ((Value *)g_ptr_array_index(config->values, i))->option;
        g_autofree char *flag = flag_name(o);
        g_autofree char *environment = environment_name(o);
        if (o->flags & DROVER_OPTION_SECRET)
            g_print("  (no flag: secret)");
        else if (o->type == DROVER_OPTION_BOOL)
            g_print("  --[no-]%s", flag);
        else
            g_print("  --%s=%s", flag, o->argument ? o->argument : "VALUE");
        g_print("\n      %s", o->help);
        if (o->default_value && *o->default_value)
            g_print(" (default: %s)", o->default_value);
        if (o->flags & DROVER_OPTION_REQUIRED)
            g_print(" (required)");
        g_print("\n      [%s] %s, %s\n", file_section(o), o->name, environment);
    }
}

/* ---- reading -------------------------------------------------------------------------------------------------- */

static bool read_file(DroverConfig *config, const char *path, GError **error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    if (!g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, error)) {
        g_prefix_error(error, "Configuration file %s cannot be read: ", path);
        return false;
    }
    g_autoptr(GHashTable) sections = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; i < config->values->len; i++) {
        Value *v = g_ptr_array_index(config->values, i);
        const char *section = file_section(v->option);
        g_hash_table_add(sections, (gpointer)section);
        g_autofree char *text = g_key_file_get_string(file, section, v->option->name, NULL);
        if (!text)
            continue;
        g_autofree char *origin = g_strdup_printf("%s, [%s] %s", path, section, v->option->name);
        value_set(v, text, origin, false);
    }
    GHashTableIter iter;
    gpointer section;
    g_hash_table_iter_init(&iter, sections);
    while (g_hash_table_iter_next(&iter, &section, NULL)) {
        g_auto(GStrv) keys = g_key_file_get_keys(file, section, NULL, NULL);
        for (char **k = keys; k && *k; k++) {
            g_autofree char *key = g_strconcat(strcmp(section, "drover") == 0 ? "" : section, ".", *k, NULL);
            if (!g_hash_table_contains(config->by_key, key))
                return drover_fail(error, DROVER_ERROR_PERMANENT,
                                   "Configuration file %s: [%s] has no option '%s'; see --help for those there are",
                                   path, (const char *)section, *k);
        }
    }
    return true;
}

static void read_environment(DroverConfig *config)
{
    for (guint i = 0; i < config->values->len; i++) {
        Value *v = g_ptr_array_index(config->values, i);
        g_autofree char *name = environment_name(v->option);
        const char *text = g_getenv(name);
        if (text)
            value_set(v, text, name, false);
    }
}

static Value *find_flag(const DroverConfig *config, const char *name, size_t len)
{
    for (guint i = 0; i < config->values->len; i++) {
        Value *v = g_ptr_array_index(config->values, i);
        g_autofree char *flag = flag_name(v->option);
        if (strlen(flag) == len && strncmp(flag, name, len) == 0)
            return v;
    }
    return NULL;
}

/* Applies flags and keeps the positional arguments in ARGV. --config is skipped (it was read before). */
static bool read_flags(DroverConfig *config, int *argc, char **argv, GError **error)
{
    int kept = 1;
    bool only_positional = false;
    for (int i = 1; i < *argc; i++) {
        char *arg = argv[i];
        if (only_positional || !g_str_has_prefix(arg, "-") || strcmp(arg, "-") == 0) {
            argv[kept++] = arg;
            continue;
        }
        if (strcmp(arg, "--") == 0) {
            only_positional = true;
            continue;
        }
        const char *name = arg[1] == '-' ? arg + 2 : "";
        const char *equals = strchr(name, '=');
        size_t len = equals ? (size_t)(equals - name) : strlen(name);
        if (len == strlen("config") && strncmp(name, "config", len) == 0) {
            i += equals ? 0 : 1;
            continue;
        }
        Value *v = find_flag(config, name, len);
        if (!v && g_str_has_prefix(name, "no-") && !equals && (v = find_flag(config, name + 3, len - 3)) != NULL &&
            v->option->type == DROVER_OPTION_BOOL) {
            value_set(v, "false", arg, true);
            continue;
        }
        if (!v)
            return drover_fail(error, DROVER_ERROR_PERMANENT, "Unknown option '%s'; see --help", arg);
        if (v->option->flags & DROVER_OPTION_SECRET)
            return drover_fail(error, DROVER_ERROR_PERMANENT,
                               "'--%.*s' is a secret and not taken from the command line, where every user can read it: "
                               "put it into the configuration file or the environment", (int)len, name);
        g_autofree char *origin = g_strdup_printf("--%.*s", (int)len, name);
        if (equals)
            value_set(v, equals + 1, origin, true);
        else if (v->option->type == DROVER_OPTION_BOOL)
            value_set(v, "true", origin, true);
        else if (i + 1 < *argc)
            value_set(v, argv[++i], origin, true);
        else
            return drover_fail(error, DROVER_ERROR_PERMANENT, "%s needs a value (%s)", arg,
                               v->option->argument ? v->option->argument : "VALUE");
    }
    argv[kept] = NULL;
    *argc = kept;
    return true;
}

/* --help, --version and --config come before all else. Returns the configuration file to read, or NULL. */
static bool first_pass(const DroverConfig *config, const char *program, const char *synopsis, const char *description,
                       int argc, char **argv, const char **path, GError **error)
{
    *path = g_getenv("DROVER_CONFIG");
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help(config, program, synopsis, description);
            exit(0);
        }
        if (strcmp(argv[i], "--version") == 0) {
            g_print("%s %s\n", program, DROVER_VERSION);
            exit(0);
        }
        if (g_str_has_prefix(argv[i], "--config=")) {
            *path = argv[i] + strlen("--config=");
        } else if (strcmp(argv[i], "--config") == 0) {
            if (i + 1 >= argc)
                return drover_fail(error, DROVER_ERROR_PERMANENT, "--config needs a value (FILE)");
            *path = argv[++i];
        }
    }
    if ((!*path || !**path) && g_file_test(DEFAULT_FILE, G_FILE_TEST_EXISTS))
        *path = DEFAULT_FILE;
    return true;
}

static void add_table(DroverConfig *config, const DroverOption *table)
{
    for (const DroverOption *o = table; o->name; o++) {
        Value *v = g_new0(Value, 1);
        v->option = o;
        v->key = g_strconcat(o->section, ".", o->name, NULL);
        v->text = g_strdup(o->default_value);
        g_assert(!g_hash_table_contains(config->by_key, v->key));
        g_ptr_array_add(config->values, v);
        g_hash_table_insert(config->by_key, v->key, v);
    }
}

DroverConfig *drover_config_parse(const char *program, const char *synopsis, const char *description,
                                  const DroverOption *const *tables, int *argc, char ***argv, GError **error)
{
    g_autoptr(DroverConfig) config = g_new0(DroverConfig, 1);
    config->values = g_ptr_array_new_with_free_func(value_free);
    config->by_key = g_hash_table_new(g_str_hash, g_str_equal);
    for (; *tables; tables++)
        add_table(config, *tables);
    add_table(config, log_options);

    const char *path = NULL;
    if (!first_pass(config, program, synopsis, description, *argc, *argv, &path, error))
        return NULL;
    if (path && *path && !read_file(config, path, error))
        return NULL;
    read_environment(config);
    if (!read_flags(config, argc, *argv, error))
        return NULL;
    for (guint i = 0; i < config->values->len; i++)
        if (!value_finish(g_ptr_array_index(config->values, i), error))
            return NULL;
    drover_log_init(program, drover_config_string(config, "log.format"), drover_config_string(config, "log.level"));
    return g_steal_pointer(&config);
}

/* ---- access --------------------------------------------------------------------------------------------------- */

static const Value *get(const DroverConfig *config, const char *key)
{
    const Value *v = g_hash_table_lookup(config->by_key, key);
    if (!v)
        g_error("option '%s' is in no table", key);
    return v;
}

const char *drover_config_string(const DroverConfig *config, const char *key)
{
    const Value *v = get(config, key);
    return v->text ? v->text : "";
}

const char *const *drover_config_list(const DroverConfig *config, const char *key)
{
    return (const char *const *)get(config, key)->list;
}

int64_t drover_config_int(const DroverConfig *config, const char *key)
{
    return get(config, key)->number;
}

bool drover_config_bool(const DroverConfig *config, const char *key)
{
    return get(config, key)->number != 0;
}

bool drover_config_is_set(const DroverConfig *config, const char *key)
{
    return get(config, key)->given;
}
