/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks of vCenter: started, and waited for by PropertyCollector.WaitForUpdatesEx, however long they take. */
#ifndef DROVER_LIB_VSPHERE_TASK_H
#define DROVER_LIB_VSPHERE_TASK_H

#include "lib/vsphere/session.h"

typedef struct {
    DroverVsphereFault *fault; /* NULL: success */
    char *result;              /* text of TaskInfo.result, e.g. a moref; "" */
} DroverVsphereOutcome;

void drover_vsphere_outcome_clear(DroverVsphereOutcome *outcome);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(DroverVsphereOutcome, drover_vsphere_outcome_clear)

/* Waits until TASK (a moref) has ended, and says how. The wait survives new sessions and outages of some minutes. False:
 * the end of the task is not known. */
bool drover_vsphere_wait_task(DroverVsphere *vsphere, const char *task, const DroverVsphereWait *wait,
                              DroverVsphereOutcome *outcome, GError **error);
/* Makes the call REQUEST (freed), which starts a task, and waits for that. Faults of either are told in OUTCOME. */
bool drover_vsphere_run_task(DroverVsphere *vsphere, DroverSoapWriter *request, const DroverVsphereWait *wait,
                             DroverVsphereOutcome *outcome, GError **error);
/* The same with faults as errors; RESULT may be NULL. */
bool drover_vsphere_do_task(DroverVsphere *vsphere, DroverSoapWriter *request, const DroverVsphereWait *wait,
                            char **result, GError **error);

#endif
