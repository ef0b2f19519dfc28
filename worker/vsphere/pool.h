/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions with vCenters, shared by all tasks of this worker process: borrowed for a few calls, then given back. At
 * most as many a vCenter as its `sessions` says. Any thread.
 */
#ifndef DROVER_WORKER_VSPHERE_POOL_H
#define DROVER_WORKER_VSPHERE_POOL_H

#include "lib/vsphere/vsphere.h"
#include "worker/source/source.h"

typedef struct {
    DroverVcenter *vcenter;
    DroverVsphere *vsphere;
    DroverVcenterPool *pool;
} DroverVcenterSession;

/* FILE: the key file of lib/vsphere/vcenter.h. Nothing is read yet. */
DroverVcenterPool *drover_vcenter_pool_new(const char *file);
/* Logs out everywhere. All sessions must have been given back. NULL is allowed. */
void drover_vcenter_pool_free(DroverVcenterPool *pool);

/* A session with the vCenter NAME; waits for one to become free. Blocks; CANCEL ends it. */
DroverVcenterSession *drover_vcenter_pool_borrow(DroverVcenterPool *pool, const char *name, GCancellable *cancel,
                                                 GError **error);
/* NULL is allowed. */
void drover_vcenter_session_give_back(DroverVcenterSession *session);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverVcenterSession, drover_vcenter_session_give_back)

#endif
