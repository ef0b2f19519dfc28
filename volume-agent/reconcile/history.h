/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the operations that have ended say about how things should be: which volumes and VMs are this agent's doing, and where
 * its volumes should hang. Also which of those operations nobody needs any more. Pure.
 */
#ifndef DROVER_VOLUME_AGENT_RECONCILE_HISTORY_H
#define DROVER_VOLUME_AGENT_RECONCILE_HISTORY_H

#include "volume-agent/journal/operation.h"

typedef struct {
    char *id;
    bool made;     /* created here and not deleted since */
    bool tried;    /* its creation failed: what is left of it is ours */
    char *where;   /* VM that it should be attached to; "": none; NULL: the operations do not tell */
} DroverKnownVolume;

typedef struct {
    char *volume_id; /* taken off VM_ID to make room for another root disk */
    char *vm_id;
} DroverOldRoot;

typedef struct {
    GHashTable *volumes; /* id -> DroverKnownVolume, those that were not deleted */
    GHashTable *vms;     /* set of the ids of VMs that were deployed, or tried to be, and not destroyed */
    GPtrArray *old_roots; /* DroverOldRoot */
} DroverHistory;

/* ENDED: DroverOperation, by sequence. */
DroverHistory *drover_history_new(const GPtrArray *ended, const char *appliance_vm_id);
void drover_history_free(DroverHistory *history);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverHistory, drover_history_free)

/*
 * The ids of those of ENDED that ended before BEFORE_MS and can be forgotten; a new array of strings. Of a volume or VM that is
 * still there the last operation of each kind is kept, however old: it is what the history above is made of, and tells the
 * highest generation that was ever open.
 */
GPtrArray *drover_history_prunable(const GPtrArray *ended, int64_t before_ms);

#endif
