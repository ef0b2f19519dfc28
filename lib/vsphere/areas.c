/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/vsphere/areas.h"

#include "lib/base/error.h"

#define BAD(...) drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VCENTER-ANSWER: QueryChangedDiskAreas: " __VA_ARGS__)

static bool add_area(const xmlNode *area, uint64_t capacity, DroverRangeset *areas, GError **error)
{
    int64_t start = drover_soap_int(area, "start", -1), length = drover_soap_int(area, "length", -1);
    if (start < 0 || length < 0 || (uint64_t)start > capacity || (uint64_t)length > capacity - (uint64_t)start)
        return BAD("an area of %" G_GINT64_FORMAT " bytes at %" G_GINT64_FORMAT " is not inside the disk of %" G_GUINT64_FORMAT
                   " bytes", length, start, capacity);
    return drover_rangeset_add(areas, (uint64_t)start, (uint64_t)length) || BAD("areas beyond all bounds");
}

bool drover_vsphere_areas_add(const xmlNode *info, uint64_t capacity_bytes, uint64_t *next, DroverRangeset *areas,
                              GError **error)
{
    int64_t start = drover_soap_int(info, "startOffset", -1), length = drover_soap_int(info, "length", -1);
    if (start < 0 || length < 0 || length > G_MAXINT64 - start)
        return BAD("a page without start or length");
    if ((uint64_t)start > *next)
        return BAD("asked from byte %" G_GUINT64_FORMAT " on, vCenter tells of byte %" G_GINT64_FORMAT " and later", *next, start);
    uint64_t end = (uint64_t)start + (uint64_t)length;
    if (end <= *next)
        return BAD("asked from byte %" G_GUINT64_FORMAT " on, vCenter tells only of what lies before", *next);
    for (const xmlNode *area = drover_soap_child(info, "changedArea"); area; area = drover_soap_next(area))
        if (!add_area(area, capacity_bytes, areas, error))
            return false;
    *next = end;
    return true;
}
