/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One error domain for all of Drover. The code of a GError is its class, which decides what happens next; the message
 * is for people: what failed, on what, and what they can do. User-facing failures with a defined cause start with
 * their stable code: "DRV-SOURCE-MISSING: ...".
 */
#ifndef DROVER_LIB_BASE_ERROR_H
#define DROVER_LIB_BASE_ERROR_H

#include <glib.h>
#include <stdbool.h>

#define DROVER_ERROR (drover_error_quark())
GQuark drover_error_quark(void);

/* Values equal drover.v1.ErrorClass. */
typedef enum {
    DROVER_ERROR_RETRYABLE = 1, /* the same call may succeed later */
    DROVER_ERROR_PERMANENT = 2, /* repeating cannot help */
    DROVER_ERROR_FENCED = 3,    /* somebody newer owns it: stop without side effects */
    DROVER_ERROR_FATAL = 4,     /* the process cannot go on */
} DroverErrorClass;

/* Class of any GError; errors of other domains count as PERMANENT, except time-outs and resets of G_IO_ERROR. */
DroverErrorClass drover_error_class(const GError *error);
const char *drover_error_class_name(DroverErrorClass error_class); /* "retryable", ... */

/* The stable code at the start of MESSAGE ("DRV-..." up to the colon), newly allocated; "" when there is none. */
char *drover_error_code(const char *message);

/* Sets *ERROR (if ERROR is not NULL) and returns false, so that "return drover_fail(...)" reads well. */
bool drover_fail(GError **error, DroverErrorClass error_class, const char *format, ...) G_GNUC_PRINTF(3, 4);

#endif
