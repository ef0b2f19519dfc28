/* SPDX-License-Identifier: Apache-2.0 */
/* Names and identifiers: what is accepted, and how derived ones are made. Pure. */
#ifndef DROVER_LIB_BASE_IDS_H
#define DROVER_LIB_BASE_IDS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

bool drover_id_is_valid(const char *id);        /* job and disk ids: [A-Za-z0-9._-]{1,64}, not "." or ".." */
bool drover_site_is_valid(const char *site);    /* sites and agents: [a-z0-9-]{1,40} */
bool drover_vm_name_is_valid(const char *name); /* [A-Za-z0-9-]{1,63}, begins with a letter, does not end in '-' (CloudStack's host name rule) */

/* Random id of 16 hex digits with PREFIX in front; newly allocated. From the kernel's generator. */
char *drover_id_new(const char *prefix);

/* 32 lower-case hex digits (128 bits) from the kernel's generator; newly allocated. */
char *drover_token_new(void);

/*
 * Task and operation ids are derived, so that planning twice gives the same: "<job>/<disk>/r<round>/<kind>/<rest>".
 * DISK may be NULL for things of the whole job ("-" stands there). Newly allocated.
 */
char *drover_task_id(const char *job_id, const char *disk_id, uint32_t round, const char *kind, const char *rest);

/* UUID (version 5 style, SHA-1 of TEXT in Drover's namespace) in its 36 character form; newly allocated.
 * Gives CloudStack's customid for an operation, so that repeating the operation names the same object. */
char *drover_uuid_from(const char *text);

/* Unix time in milliseconds (UTC), and a clock that counts while suspended (CLOCK_BOOTTIME). */
int64_t drover_now_ms(void);
int64_t drover_boottime_ms(void);

/* "2026-11-23T13:08:10.123Z"; newly allocated. */
char *drover_iso8601(int64_t unix_ms);

#endif
