/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of QueryChangedDiskAreas (DiskChangeInfo). Pure. */
#ifndef DROVER_LIB_VSPHERE_AREAS_H
#define DROVER_LIB_VSPHERE_AREAS_H

#include "lib/rangeset/rangeset.h"
#include "lib/vsphere/soap.h"

/* Adds the areas of one page, INFO, asked for from byte *NEXT on, to AREAS, and sets *NEXT to where the next page begins.
 * PERMANENT DRV-VCENTER-ANSWER for a page that does not advance, that leaves a gap, or with areas outside the disk: a page
 * that is not understood must never become a disk that is not copied. */
bool drover_vsphere_areas_add(const xmlNode *info, uint64_t capacity_bytes, uint64_t *next, DroverRangeset *areas,
                              GError **error);

#endif
