/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who owns a volume or VM at CloudStack: an account of a domain, or a project. CloudStack attaches a volume only to a VM of
 * the same owner, whoever asks, and gives a volume away only while it is detached and has no snapshots.
 */
#ifndef DROVER_VOLUME_AGENT_OPERATIONS_OWNER_H
#define DROVER_VOLUME_AGENT_OPERATIONS_OWNER_H

#include "volume-agent/operations/context.h"

/* The owner in CloudStack's row of a volume or VM, for comparing: "project/<id>" or "account/<domain id>/<name>". Newly
 * allocated. */
char *drover_owner_of(const json_t *row);

/*
 * Where a deployment shall belong, as parameters for it: the account's name and its domain's id, or the project's id; all ""
 * when TARGET names none of them. Newly allocated. PERMANENT: DRV-TARGET-ACCOUNT.
 */
typedef struct {
    char *account;
    char *domain_id;
    char *project_id;
} DroverOwner;
bool drover_owner_resolve(const DroverOpContext *context, const Drover__V1__TargetSpec *target, DroverOwner *owner, GError **error);
void drover_owner_clear(DroverOwner *owner);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(DroverOwner, drover_owner_clear)

/*
 * Hands a detached volume to the owner of VM_ID, so that it can be attached there; nothing when it has that owner, or is attached. OPERATION has
 * the volume, or has claimed it. PERMANENT, DRV-VOLUME-OWNER: CloudStack refuses, or the volume was never this agent's to give.
 */
bool drover_owner_hand_over(const DroverOpContext *context, DroverOperation *operation, const char *volume_id, const char *vm_id,
                            GError **error);

/* The same towards the owner of the appliance, when something is rolled back: a volume that is gone is success, and a refusal
 * only a warning. False: could not be asked, or was interrupted. */
bool drover_owner_hand_back(const DroverOpContext *context, DroverOperation *operation, const char *volume_id, GError **error);

#endif
