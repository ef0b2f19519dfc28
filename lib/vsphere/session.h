/* SPDX-License-Identifier: Apache-2.0 */
/* The session behind vsphere.h, for the other files of this directory. */
#ifndef DROVER_LIB_VSPHERE_SESSION_H
#define DROVER_LIB_VSPHERE_SESSION_H

#include "lib/vsphere/soap.h"
#include "lib/vsphere/vsphere.h"

/* Managed objects of the service, from ServiceContent. */
typedef enum {
    DROVER_VSPHERE_SESSION_MANAGER,
    DROVER_VSPHERE_PROPERTY_COLLECTOR,
    DROVER_VSPHERE_VIEW_MANAGER,
    DROVER_VSPHERE_ROOT_FOLDER,
    DROVER_VSPHERE_AUTHORIZATION_MANAGER,
    DROVER_VSPHERE_SERVICES,
} DroverVsphereService;

/* A request METHOD to one of them. */
DroverSoapWriter *drover_vsphere_service_request(const DroverVsphere *vsphere, const char *method,
                                                 DroverVsphereService service);
const char *drover_vsphere_service_moref(const DroverVsphere *vsphere, DroverVsphereService service);
/* UserSession.key and UserSession.userName of the session as it is now; newly allocated. */
char *drover_vsphere_session_key(DroverVsphere *vsphere);

typedef struct {
    GCancellable *cancel;
    const DroverVsphereWait *wait; /* not NULL: the call changes something; may_go_on is asked before each try */
    unsigned longer_ms;            /* on top of the call's usual deadline */
    /* Not NULL: the call makes sense in this session only (pages, views, filters). It is not repeated; *EXPIRED says that
     * a new session was opened, and all that led to the call must be done again. */
    bool *expired;
    bool take_faults; /* a fault is an answer, not an error */
} DroverVsphereHow;

/* One call; frees REQUEST. Logs in again on NotAuthenticated, once, and repeats the call. */
DroverSoapAnswer *drover_vsphere_call(DroverVsphere *vsphere, DroverSoapWriter *request, const DroverVsphereHow *how,
                                      GError **error);

/* How long the session may be silent before it is kept alive; 4 minutes unless a test wants less. */
void drover_vsphere_keep_alive_every(DroverVsphere *vsphere, unsigned ms);

#endif
