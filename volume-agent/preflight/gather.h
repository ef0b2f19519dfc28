/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of a preflight share while they gather facts. For volume-agent/preflight/. */
#ifndef DROVER_VOLUME_AGENT_PREFLIGHT_GATHER_H
#define DROVER_VOLUME_AGENT_PREFLIGHT_GATHER_H

#include "volume-agent/operations/look.h"
#include "volume-agent/preflight/preflight.h"

typedef struct {
    const DroverOpContext *context;
    const Drover__V1__PreflightTarget *asked;
    const Drover__V1__TargetSpec *target;
    DroverTargetFacts facts; /* texts in it belong to what is held here */
    GPtrArray *held_json;
    GPtrArray *held_texts;
    GPtrArray *held_arrays;
    json_t *appliance;       /* CloudStack's row of it; NULL: unknown there */
    char *project_id;        /* that the VM shall belong to; NULL or "": none */
} DroverGather;

/* Takes what the facts point to. */
json_t *drover_gather_hold(DroverGather *g, json_t *json);
const char *drover_gather_text(DroverGather *g, char *text);
GArray *drover_gather_array(DroverGather *g, guint element_size);

/* All rows of a list command, page by page, held. With OPTIONAL a refusal gives NULL and success. */
bool drover_gather_list(DroverGather *g, const char *command, const char *member, const char *const *parameters, bool optional,
                        json_t **rows, GError **error);
/* A number that CloudStack writes as a number or as text; MISSING for anything else. */
int64_t drover_gather_number(const json_t *row, const char *name, int64_t missing);

/* The parts, in the order in which they need each other. */
bool drover_gather_rights(DroverGather *g, GError **error);
bool drover_gather_place(DroverGather *g, GError **error);   /* appliance, zone, pools, hosts */
bool drover_gather_disks(DroverGather *g, GError **error);
bool drover_gather_owner(DroverGather *g, GError **error);   /* accounts and their limits */
bool drover_gather_vm(DroverGather *g, GError **error);      /* template, offering, OS type */
bool drover_gather_networks(DroverGather *g, GError **error); /* and whether the name is free there */

#endif
