/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/vsphere/fault.h"

#include <string.h>

typedef struct {
    const char *code;
    DroverErrorClass error_class;
    const char *types[16];
} Meaning;

/* Types and what they are for: vSphere Web Services API reference, MethodFault and its descendants. */
static const Meaning meanings[] = {
    {"DRV-VCENTER-LOGIN", DROVER_ERROR_PERMANENT, {"InvalidLogin", "InvalidLocale", "PasswordExpired"}},
    {"DRV-VCENTER-RIGHTS", DROVER_ERROR_PERMANENT, {"NoPermission", "RestrictedVersion", "LicenseRestricted"}},
    {"DRV-VCENTER-GONE", DROVER_ERROR_PERMANENT, {"ManagedObjectNotFound"}},
    {"DRV-VCENTER-BUSY",
     DROVER_ERROR_RETRYABLE,
     {"TaskInProgress", "ConcurrentAccess", "ResourceInUse", "FileLocked", "VAppTaskInProgress", "DiskIsInUse"}},
    {"DRV-VCENTER-SPACE",
     DROVER_ERROR_PERMANENT,
     {"NoDiskSpace", "InsufficientStorageSpace"}},
    {"DRV-VCENTER-QUIESCE",
     DROVER_ERROR_PERMANENT,
     {"FilesystemQuiesceFault", "ApplicationQuiesceFault"}},
    {"DRV-VCENTER-STATE",
     DROVER_ERROR_PERMANENT,
     {"InvalidState", "InvalidPowerState", "InvalidVmState", "ToolsUnavailable", "NotSupported", "MethodDisabled",
      "QuestionPending", "InvalidHostState", "InaccessibleDatastore", "SnapshotDisabled", "TooManySnapshotLevels",
      "MultipleSnapshotsNotSupported", "SnapshotLocked", "InvalidDatastoreState"}},
    {"DRV-VCENTER-ARGUMENT",
     DROVER_ERROR_PERMANENT,
     {"InvalidArgument", "InvalidRequest", "InvalidType", "InvalidProperty", "MethodNotFound", "InvalidName",
      "InvalidDeviceSpec", "InvalidDeviceBacking", "InvalidDeviceOperation", "InvalidController"}},
    {"DRV-VCENTER-TIMEOUT", DROVER_ERROR_RETRYABLE, {"Timedout"}},
    {"DRV-VCENTER-UNREACHABLE",
     DROVER_ERROR_RETRYABLE,
     {"HostNotConnected", "HostNotReachable", "HostCommunication", "HostConnectFault", "NoHost"}},
};

const char *drover_vsphere_fault_code(const char *type, DroverErrorClass *error_class)
{
    for (guint i = 0; i < G_N_ELEMENTS(meanings); i++) {
        for (guint j = 0; j < G_N_ELEMENTS(meanings[i].types) && meanings[i].types[j] != NULL; j++) {
            if (strcmp(meanings[i].types[j], type) == 0) {
                *error_class = meanings[i].error_class;
                return meanings[i].code;
            }
        }
    }
    *error_class = DROVER_ERROR_RETRYABLE;
    return "DRV-VCENTER-FAULT";
}

bool drover_vsphere_fault_is(const DroverVsphereFault *fault, const char *type)
{
    return fault != NULL && strcmp(fault->type, type) == 0;
}

bool drover_vsphere_fault_fail(const DroverVsphereFault *fault, const char *doing, GError **error)
{
    DroverErrorClass error_class;
    const char *code = drover_vsphere_fault_code(fault->type, &error_class);
    g_autoptr(GString) text = g_string_new(NULL);
    g_string_append_printf(text, "%s: vCenter refused %s: %s", code, doing,
                           *fault->message ? fault->message : "it gave no reason");
    const char *extra[][2] = {{"privilege ", fault->privilege}, {"property ", fault->property}, {"object ", fault->object}};
    g_string_append_printf(text, " (%s", *fault->type ? fault->type : "no type");
    for (guint i = 0; i < G_N_ELEMENTS(extra); i++)
        if (*extra[i][1])
            g_string_append_printf(text, ", %s%s", extra[i][0], extra[i][1]);
    g_string_append_c(text, ')');
    return drover_fail(error, error_class, "%s", text->str);
}
