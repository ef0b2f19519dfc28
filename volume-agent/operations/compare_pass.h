/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of compare*.c: one pass. It is made twice: the first finds suspects, which are then claimed, so that
 * no operation is at work on them; the second reports and repairs what is still so of those.
 */
#ifndef DROVER_VOLUME_AGENT_OPERATIONS_COMPARE_PASS_H
#define DROVER_VOLUME_AGENT_OPERATIONS_COMPARE_PASS_H

#include "volume-agent/operations/context.h"

typedef struct {
    const DroverOpContext *context;
    DroverOperation *operation;
    bool looking;         /* first time: nothing is reported or changed */
    bool repair;
    GHashTable *suspects; /* set of ids; "": what concerns no single volume or VM */
    json_t *differences;
} DroverComparePass;

/* What is to be done about a difference in the volume ID. True: it was. False with ERROR: it could not. */
typedef bool (*DroverRepair)(DroverComparePass *pass, const char *id, const void *data, GError **error);

typedef struct {
    const char *kind;
    const char *volume_id; /* either may be NULL */
    const char *vm_id;
    const char *message;
    DroverRepair repair; /* NULL: it is reported only */
    const void *data; /* for repair */
} DroverDifference;

/* Notes a suspect, or repairs and reports. False with ERROR when the pass cannot go on. */
bool drover_compare_found(DroverComparePass *pass, const DroverDifference *difference, GError **error);

/* compare_cloud.c: what the operations that ended say, against what CloudStack has. */
bool drover_compare_cloud(DroverComparePass *pass, size_t *n_volumes, GError **error);

/* compare_served.c: what the NBD server serves, against the book of exports. */
bool drover_compare_served(DroverComparePass *pass, GError **error);

#endif
