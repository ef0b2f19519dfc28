/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Structured logs on standard error: an event name, a message and fields. Text when standard error is a terminal, one
 * JSON object a line otherwise (or as --log-format says). Any thread; never blocks on anything but the write.
 * A library reports errors, a program logs them, once. Every value passes a redactor that blanks export tokens
 * ("migration-vol-<id>@<generation>.<token>" loses its token).
 *
 *   drover_info("task.claimed", "Claimed a copy task", F_S("task_id", id), F_U("attempt", attempt));
 */
#ifndef DROVER_LIB_BASE_LOG_H
#define DROVER_LIB_BASE_LOG_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum { DROVER_LOG_DEBUG, DROVER_LOG_INFO, DROVER_LOG_WARNING, DROVER_LOG_ERROR } DroverLogLevel;

typedef struct {
    const char *key; /* NULL ends the list */
    enum { DROVER_FIELD_STRING, DROVER_FIELD_UNSIGNED, DROVER_FIELD_SIGNED } type;
    union {
        const char *s; /* NULL: the field is left out */
        uint64_t u;
        int64_t i;
    } value;
} DroverField;

#define F_S(k, v) ((DroverField){.key = (k), .type = DROVER_FIELD_STRING, .value.s = (v)})
#define F_U(k, v) ((DroverField){.key = (k), .type = DROVER_FIELD_UNSIGNED, .value.u = (v)})
#define F_I(k, v) ((DroverField){.key = (k), .type = DROVER_FIELD_SIGNED, .value.i = (v)})

/* PROGRAM names the process in each line; FORMAT is "auto", "text" or "json"; LEVEL "debug", "info", "warning", "error". */
void drover_log_init(const char *program, const char *format, const char *level);
bool drover_log_enabled(DroverLogLevel level);
void drover_log_emit(DroverLogLevel level, const char *event, const char *message, const DroverField *fields);

#define DROVER_LOG(level, event, message, ...)                                                                        \
    do {                                                                                                              \
        if (drover_log_enabled(level))                                                                                \
            drover_log_emit(level, event, message, (const DroverField[]){__VA_ARGS__ __VA_OPT__(, ){0}});             \
    } while (0)
#define drover_debug(...) DROVER_LOG(DROVER_LOG_DEBUG, __VA_ARGS__)
#define drover_info(...) DROVER_LOG(DROVER_LOG_INFO, __VA_ARGS__)
#define drover_warning(...) DROVER_LOG(DROVER_LOG_WARNING, __VA_ARGS__)
#define drover_error(...) DROVER_LOG(DROVER_LOG_ERROR, __VA_ARGS__)

/* TEXT with every export token blanked; newly allocated. Use it on every string from libnbd and nbdkit. */
char *drover_redact(const char *text);

#endif
