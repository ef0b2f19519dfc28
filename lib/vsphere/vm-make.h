/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a DroverVsphereVm, empty: all strings "", all lists without elements. For what fills them; a
 * DroverVsphereVm owns and frees what is put into its arrays. */
#ifndef DROVER_LIB_VSPHERE_VM_MAKE_H
#define DROVER_LIB_VSPHERE_VM_MAKE_H

#include "lib/vsphere/vm.h"

DroverVsphereNic *drover_vsphere_nic_new(void);
DroverVsphereSnapshot *drover_vsphere_snapshot_new(void);
DroverVsphereDatastore *drover_vsphere_datastore_new(void);
/* Replaces *FIELD by a copy of TEXT; NULL becomes "". */
void drover_vsphere_set(char **field, const char *text);

#endif
