/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options. One table per program drives the configuration file, the environment, the flags, --help and the reference
 * page. The option {"kafka", "brokers", ...} is
 *   in drover.conf   [kafka]  brokers=...
 *   in the environment        DROVER_KAFKA_BROKERS
 *   as a flag                 --kafka-brokers=...   (section "" has neither prefix: --name, DROVER_NAME, [drover])
 * Flags win over the environment, which wins over the file, which wins over the default. The file is --config FILE,
 * else $DROVER_CONFIG, else /etc/drover/drover.conf if it exists. Unknown keys in a section that the program's table
 * uses are refused with file and key; other sections belong to other programs and are skipped.
 */
#ifndef DROVER_LIB_BASE_CONFIG_H
#define DROVER_LIB_BASE_CONFIG_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum {
    DROVER_OPTION_STRING,
    DROVER_OPTION_LIST,     /* comma separated; a flag may be repeated */
    DROVER_OPTION_REPEATED, /* like LIST, but never split at commas: one element a flag (in a file or variable: one a line) */
    DROVER_OPTION_INT,      /* 0 .. INT64_MAX */
    DROVER_OPTION_SIZE,     /* bytes, with K, M, G, T as powers of 1024 */
    DROVER_OPTION_DURATION, /* milliseconds, with ms, s, m, h; a bare number is milliseconds */
    DROVER_OPTION_BOOL,     /* a flag without value means true; --no-NAME false */
} DroverOptionType;

typedef enum {
    DROVER_OPTION_PLAIN = 0,
    DROVER_OPTION_SECRET = 1 << 0,   /* never a flag: only file or environment; never shown */
    DROVER_OPTION_RELOAD = 1 << 1,   /* SIGHUP reads it again */
    DROVER_OPTION_REQUIRED = 1 << 2, /* empty is an error */
} DroverOptionFlags;

typedef struct {
    const char *section;
    const char *name; /* words joined by '-' */
    DroverOptionType type;
    const char *default_value; /* as it would be written; NULL for none */
    const char *argument;      /* placeholder in --help, e.g. "HOST:PORT,..." */
    const char *help;
    DroverOptionFlags flags;
} DroverOption;

#define DROVER_OPTION_END {0}

typedef struct DroverConfig DroverConfig;

/*
 * Reads everything. TABLES is a NULL-terminated array of option tables (each ending in DROVER_OPTION_END); log options
 * (--log-format, --log-level) are always there. --help and --version print and exit(0). SYNOPSIS is the rest of the
 * usage line (e.g. "SRC DST"), DESCRIPTION what the program does, in some lines. Positional arguments stay in *ARGV
 * (argv[0] first); flags after "--" are positional. Calls drover_log_init.
 * Returns NULL with a PERMANENT error that names option, place and accepted values.
 */
DroverConfig *drover_config_parse(const char *program, const char *synopsis, const char *description,
                                  const DroverOption *const *tables, int *argc, char ***argv, GError **error);
void drover_config_free(DroverConfig *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverConfig, drover_config_free)

/* Values by "section.name"; asking for a name that is in no table is a programming error (g_assert). */
const char *drover_config_string(const DroverConfig *config, const char *key); /* "" when unset; owned by CONFIG */
const char *const *drover_config_list(const DroverConfig *config, const char *key); /* NULL-terminated; owned */
int64_t drover_config_int(const DroverConfig *config, const char *key); /* INT, SIZE and DURATION, too */
bool drover_config_bool(const DroverConfig *config, const char *key);
bool drover_config_is_set(const DroverConfig *config, const char *key); /* given anywhere, even if empty */

/* Parse helpers for values from other places (job files, NBD parameters). */
bool drover_parse_size(const char *text, uint64_t *bytes, GError **error);
bool drover_parse_duration(const char *text, uint64_t *ms, GError **error);

/* Options that every process of the fleet shares: [kafka] brokers, security …, [fleet] sites, agents. */
extern const DroverOption drover_fleet_options[];

#endif
