/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/error.h"

#include <gio/gio.h>
#include <string.h>

/* As G_DEFINE_QUARK, but first used by several threads at once without a data race. */
GQuark drover_error_quark(void)
{
    static _Atomic GQuark quark;
    if (quark == 0)
        quark = g_quark_from_static_string("drover-error-quark");
    return quark;
}

DroverErrorClass drover_error_class(const GError *error)
{
    if (error->domain == DROVER_ERROR)
        return (DroverErrorClass)error->code;
    if (error->domain == G_IO_ERROR) {
        switch (error->code) {
        case G_IO_ERROR_TIMED_OUT:
        case G_IO_ERROR_WOULD_BLOCK:
        case G_IO_ERROR_BUSY:
        case G_IO_ERROR_CONNECTION_CLOSED: /* also BROKEN_PIPE: the reset of a peer */
        case G_IO_ERROR_CONNECTION_REFUSED:
        case G_IO_ERROR_HOST_UNREACHABLE:
        case G_IO_ERROR_NETWORK_UNREACHABLE:
            return DROVER_ERROR_RETRYABLE;
        default:
            break;
        }
    }
    return DROVER_ERROR_PERMANENT;
}

const char *drover_error_class_name(DroverErrorClass error_class)
{
    switch (error_class) {
    case DROVER_ERROR_RETRYABLE:
        return "retryable";
    case DROVER_ERROR_PERMANENT:
        return "permanent";
    case DROVER_ERROR_FENCED:
        return "fenced";
    case DROVER_ERROR_FATAL:
        return "fatal";
    }
    return "unknown";
}

char *drover_error_code(const char *message)
{
    if (!message || !g_str_has_prefix(message, "DRV-"))
        return g_strdup("");
    size_t len = strspn(message, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-");
    return message[len] == ':' ? g_strndup(message, len) : g_strdup("");
}

bool drover_fail(GError **error, DroverErrorClass error_class, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (error) {
        g_return_val_if_fail(*error == NULL, false);
        *error = g_error_new_valist(DROVER_ERROR, (gint)error_class, format, args);
    }
    va_end(args);
    return false;
}
