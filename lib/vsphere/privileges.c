/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "lib/base/error.h"
#include "lib/vsphere/session.h"

static bool is_granted(const DroverSoapAnswer *answer, const char *privilege)
{
    const xmlNode *told = drover_soap_child(drover_soap_answer_value(answer), "privAvailability");
    for (; told; told = drover_soap_next(told)) {
        g_autofree char *id = drover_soap_text(told, "privId");
        if (strcmp(id, privilege) == 0)
            return drover_soap_bool(told, "isGranted");
    }
    return false;
}

static DroverSoapAnswer *ask(DroverVsphere *vsphere, const char *vm, const char *const *privileges,
                             const DroverVsphereHow *how, GError **error)
{
    g_autofree char *key = drover_vsphere_session_key(vsphere);
    DroverSoapWriter *request =
        drover_vsphere_service_request(vsphere, "HasPrivilegeOnEntities", DROVER_VSPHERE_AUTHORIZATION_MANAGER);
    drover_soap_put_moref(request, "entity", "VirtualMachine", vm);
    drover_soap_put_text(request, "sessionId", key);
    for (; *privileges; privileges++)
        drover_soap_put_text(request, "privId", *privileges);
    return drover_vsphere_call(vsphere, request, how, error);
}

char **drover_vsphere_missing_privileges(DroverVsphere *vsphere, const char *vm, const char *const *privileges,
                                         GCancellable *cancel, GError **error)
{
    /* The request names its session: it cannot be repeated as it is in another. */
    bool expired = false;
    DroverVsphereHow how = {.cancel = cancel, .expired = &expired};
    g_autoptr(GError) why = NULL;
    g_autoptr(DroverSoapAnswer) answer = ask(vsphere, vm, privileges, &how, &why);
    if (answer == NULL && expired) {
        g_clear_error(&why);
        answer = ask(vsphere, vm, privileges, &how, &why);
    }
    if (answer == NULL) {
        g_propagate_error(error, g_steal_pointer(&why));
        return NULL;
    }
    g_autoptr(GStrvBuilder) missing = g_strv_builder_new();
    for (; *privileges; privileges++)
        if (!is_granted(answer, *privileges))
            g_strv_builder_add(missing, *privileges);
    return g_strv_builder_end(missing);
}
