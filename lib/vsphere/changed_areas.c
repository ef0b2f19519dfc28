/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "lib/base/error.h"
#include "lib/vsphere/areas.h"
#include "lib/vsphere/fault.h"
#include "lib/vsphere/session.h"

typedef struct {
    const char *vm;
    const char *snapshot;
    int32_t disk_key;
    const char *change_id;
} Question;

static DroverSoapAnswer *ask(DroverVsphere *vsphere, const Question *question, uint64_t from, GCancellable *cancel,
                             GError **error)
{
    DroverSoapWriter *request = drover_soap_writer_new("QueryChangedDiskAreas", "VirtualMachine", question->vm);
    drover_soap_put_moref(request, "snapshot", "VirtualMachineSnapshot", question->snapshot);
    drover_soap_put_int(request, "deviceKey", question->disk_key);
    drover_soap_put_int(request, "startOffset", (int64_t)from);
    drover_soap_put_text(request, "changeId", question->change_id);
    const DroverVsphereHow how = {.cancel = cancel, .take_faults = true};
    return drover_vsphere_call(vsphere, request, &how, error);
}

/* vCenter answers a change id that it does not know, or an offset that does not go with it, with InvalidArgument; tracking
 * data that it cannot read with FileFault (KB 1033816); a VM without tracking with NotSupported. Others are like any
 * other call's. */
static bool fail_by_fault(const Question *question, const DroverVsphereFault *fault, GError **error)
{
    bool all = strcmp(question->change_id, "*") == 0;
    bool no_file = drover_vsphere_fault_is(fault, "FileFault") || drover_vsphere_fault_is(fault, "FileNotFound") ||
                   drover_vsphere_fault_is(fault, "CannotAccessFile");
    if (drover_vsphere_fault_is(fault, "NotSupported") || (all && no_file))
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-SOURCE-NO-CHANGE-TRACKING: vCenter has no record of changes of disk %d of VM %s: %s (%s)",
                           question->disk_key, question->vm, fault->message, fault->type);
    if (!all && (no_file || drover_vsphere_fault_is(fault, "InvalidArgument")))
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-SOURCE-CHANGE-ID: vCenter does not know the changes of disk %d of VM %s since %s: %s (%s%s%s)",
                           question->disk_key, question->vm, question->change_id, fault->message, fault->type,
                           *fault->property ? ", property " : "", fault->property);
    g_autofree char *what = g_strdup_printf("QueryChangedDiskAreas of %s, disk %d", question->vm, question->disk_key);
    return drover_vsphere_fault_fail(fault, what, error);
}

bool drover_vsphere_changed_areas(DroverVsphere *vsphere, const char *vm, const char *snapshot, int32_t disk_key,
                                  const char *change_id, uint64_t capacity_bytes, GArray *areas, GCancellable *cancel,
                                  GError **error)
{
    const Question question = {vm, snapshot, disk_key, change_id};
    if (strcmp(change_id, "*") != 0 && !drover_vsphere_change_id_is_valid(change_id))
        return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-SOURCE-CHANGE-ID: '%s' is no change id (disk %d of VM %s)",
                           change_id, disk_key, vm);
    g_autoptr(DroverRangeset) found = drover_rangeset_new();
    for (uint64_t next = 0; next < capacity_bytes;) {
        g_autoptr(DroverSoapAnswer) answer = ask(vsphere, &question, next, cancel, error);
        if (answer == NULL)
            return false;
        if (drover_soap_answer_fault(answer) != NULL)
            return fail_by_fault(&question, drover_soap_answer_fault(answer), error);
        if (!drover_vsphere_areas_add(drover_soap_answer_value(answer), capacity_bytes, &next, found, error))
            return false;
    }
    size_t n = 0;
    const DroverRange *ranges = drover_rangeset_ranges(found, &n);
    g_array_append_vals(areas, ranges, (guint)n);
    return true;
}
