/* SPDX-License-Identifier: Apache-2.0 */
/* Asking CloudStack how things are: volumes, VMs, and the offerings, templates and networks that a name stands for. */
#ifndef DROVER_VOLUME_AGENT_OPERATIONS_LOOK_H
#define DROVER_VOLUME_AGENT_OPERATIONS_LOOK_H

#include "volume-agent/operations/context.h"

/*
 * Volume or VM by id. *OBJECT is a new reference, or NULL when it is gone (unknown, destroyed, expunged). Waits while it is
 * between two states (Attaching, Starting, …). False: could not be asked.
 */
bool drover_look_volume(const DroverOpContext *context, const char *volume_id, json_t **object, GError **error);
bool drover_look_vm(const DroverOpContext *context, const char *vm_id, json_t **object, GError **error);

/* The same for a snapshot of a volume, by its id, and by its name; one in Error is none. */
bool drover_look_snapshot(const DroverOpContext *context, const char *snapshot_id, json_t **object, GError **error);
bool drover_look_snapshot_named(const DroverOpContext *context, const char *volume_id, const char *name, json_t **object, GError **error);

/* All volumes attached to VM_ID, as a new JSON array. */
json_t *drover_look_volumes_of(const DroverOpContext *context, const char *vm_id, GError **error);

/* Waits until no async job of CloudStack works on OBJECT_ID. */
bool drover_look_until_idle(const DroverOpContext *context, const char *object_id, GError **error);

/* What a name in a request stands for: WANTED is an id or an exact name; "" takes FALLBACK, and that "" the first one that
 * suits. The id is newly allocated; NULL with a PERMANENT error that names what is missing. */
char *drover_look_zone(const DroverOpContext *context, const char *wanted, GError **error);
/* *CUSTOM_SIZE: the offering wants a size in the request; else *SIZE_BYTES is its own. */
char *drover_look_disk_offering(const DroverOpContext *context, const char *wanted, bool *custom_size,
                                uint64_t *size_bytes, GError **error);
char *drover_look_service_offering(const DroverOpContext *context, const char *wanted, GError **error);
char *drover_look_template(const DroverOpContext *context, const char *wanted, const char *zone_id, GError **error);
/* By id or exact description. */
char *drover_look_os_type(const DroverOpContext *context, const char *wanted, GError **error);
/* Ids joined by commas. PROJECT_ID: whose networks; "": those of accounts. */
char *drover_look_networks(const DroverOpContext *context, char *const *wanted, size_t n, const char *zone_id,
                           const char *project_id, GError **error);

/* The same as CloudStack's rows, for those who judge: *ROW is a new reference, or NULL when nothing fits. */
bool drover_look_disk_offering_row(const DroverOpContext *context, const char *wanted, json_t **row, GError **error);
bool drover_look_service_offering_row(const DroverOpContext *context, const char *wanted, json_t **row, GError **error);
bool drover_look_template_row(const DroverOpContext *context, const char *wanted, const char *zone_id, json_t **row,
                              GError **error);

/* The rows of a list command, a new array; NULL with *ERROR, and *FAILURE unless that is NULL. */
json_t *drover_look_list(const DroverOpContext *context, const char *command, const char *member,
                         const char *const *parameters, DroverCloudFailure *failure, GError **error);
/* The entry of ROWS whose id or name is WANTED; borrowed. With WANTED empty the first that SUITS (NULL: any). */
json_t *drover_look_pick(json_t *rows, const char *wanted, bool (*suits)(json_t *));

#endif
