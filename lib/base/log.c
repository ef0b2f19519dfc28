/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/log.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/ids.h"

static struct {
    char *program;
    bool json;
    DroverLogLevel level;
} logger = {.level = DROVER_LOG_INFO};

static const char *const level_names[] = {"debug", "info", "warning", "error"};

void drover_log_init(const char *program, const char *format, const char *level)
{
    g_free(logger.program);
    logger.program = g_strdup(program);
    logger.json = g_strcmp0(format, "json") == 0 || (g_strcmp0(format, "text") != 0 && !isatty(STDERR_FILENO));
    for (guint i = 0; i < G_N_ELEMENTS(level_names); i++)
        if (g_strcmp0(level, level_names[i]) == 0)
            logger.level = (DroverLogLevel)i;
}

bool drover_log_enabled(DroverLogLevel level)
{
    return level >= logger.level;
}

/*
 * The secret of an export name is what follows "migration-vol-<id>@<generation>.": the token. Percent-encoded separators
 * ("%40", "%2E") appear when libnbd prints a URI. Blanks up to 64 characters that a token may have.
 */
char *drover_redact(const char *text)
{
    static const char marker[] = "migration-vol-";
    if (!text)
        return NULL;
    if (!strstr(text, marker))
        return g_strdup(text);
    GString *out = g_string_new(NULL);
    while (*text) {
        if (!g_str_has_prefix(text, marker)) {
            g_string_append_c(out, *text++);
            continue;
        }
        const char *p = text + strlen(marker);
        while (g_ascii_isalnum(*p) || *p == '-' || *p == '_')
            p++;
        size_t at = *p == '@' ? 1 : g_ascii_strncasecmp(p, "%40", 3) == 0 ? 3 : 0;
        if (at) {
            p += at;
            while (g_ascii_isdigit(*p))
                p++;
            size_t dot = *p == '.' ? 1 : g_ascii_strncasecmp(p, "%2e", 3) == 0 ? 3 : 0;
            p += dot;
            g_string_append_len(out, text, p - text);
            text = p;
            if (dot) {
                while (g_ascii_isalnum(*text))
                    text++;
                g_string_append(out, "[redacted]");
            }
            continue;
        }
        g_string_append_len(out, text, p - text);
        text = p;
    }
    return g_string_free(out, FALSE);
}

static void append_json_string(GString *line, const char *text)
{
    g_string_append_c(line, '"');
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        switch (*p) {
        case '"':
            g_string_append(line, "\\\"");
            break;
        case '\\':
            g_string_append(line, "\\\\");
            break;
        case '\n':
            g_string_append(line, "\\n");
            break;
        case '\t':
            g_string_append(line, "\\t");
            break;
        default:
            if (*p < 0x20)
                g_string_append_printf(line, "\\u%04x", *p);
            else
                g_string_append_c(line, (char)*p);
        }
    }
    g_string_append_c(line, '"');
}

static char *valid_utf8(const char *text)
{
    g_autofree char *redacted = drover_redact(text);
    return g_utf8_make_valid(redacted, -1);
}

static void append_field(GString *line, const DroverField *field)
{
    if (field->type == DROVER_FIELD_STRING && !field->value.s)
        return;
    if (logger.json) {
        g_string_append_c(line, ',');
        append_json_string(line, field->key);
        g_string_append_c(line, ':');
    } else {
        g_string_append_printf(line, " %s=", field->key);
    }
    switch (field->type) {
    case DROVER_FIELD_UNSIGNED:
        g_string_append_printf(line, "%" G_GUINT64_FORMAT, field->value.u);
        break;
    case DROVER_FIELD_SIGNED:
        g_string_append_printf(line, "%" G_GINT64_FORMAT, field->value.i);
        break;
    case DROVER_FIELD_STRING: {
        g_autofree char *text = valid_utf8(field->value.s);
        if (logger.json || strpbrk(text, " \"\n\t"))
            append_json_string(line, text);
        else
            g_string_append(line, text);
        break;
    }
    }
}

void drover_log_emit(DroverLogLevel level, const char *event, const char *message, const DroverField *fields)
{
    if (level < logger.level)
        return;
    g_autoptr(GString) line = g_string_new(NULL);
    g_autofree char *time = drover_iso8601(drover_now_ms());
    g_autofree char *text = valid_utf8(message ? message : "");
    if (logger.json) {
        g_string_append_printf(line, "{\"time\":\"%s\",\"level\":\"%s\",\"program\":", time, level_names[level]);
        append_json_string(line, logger.program ? logger.program : "drover");
        g_string_append(line, ",\"event\":");
        append_json_string(line, event);
        g_string_append(line, ",\"message\":");
        append_json_string(line, text);
    } else {
        g_string_append_printf(line, "%s %-7s %s %s: %s", time, level_names[level],
                               logger.program ? logger.program : "drover", event, text);
    }
    for (const DroverField *f = fields; f && f->key; f++)
        append_field(line, f);
    g_string_append(line, logger.json ? "}\n" : "\n");
    /* One write a line, so that lines of threads and processes sharing a file do not mix. */
    const char *p = line->str;
    size_t left = line->len;
    while (left > 0) {
        ssize_t n = write(STDERR_FILENO, p, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        p += n;
        left -= (size_t)n;
    }
}
