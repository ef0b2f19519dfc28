/* SPDX-License-Identifier: Apache-2.0 */
/* vCenter's answers: whatever comes, it is refused with an error or understood within its bounds. */
#include <libxml/parser.h>

#include "lib/base/error.h"
#include "lib/vsphere/areas.h"
#include "lib/vsphere/describe.h"
#include "lib/vsphere/fault.h"

#define CAPACITY (UINT64_C(1) << 30)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void as_properties(DroverSoapAnswer *answer)
{
    g_autoptr(DroverVsphereProperties) all = drover_vsphere_properties_new();
    drover_vsphere_properties_add(all, answer);
    for (guint i = 0; i < all->objects->len; i++) {
        const DroverVsphereObject *object = all->objects->pdata[i];
        g_autoptr(DroverVsphereVm) vm = drover_vsphere_describe(all, object);
        for (guint j = 0; j < vm->disks->len; j++)
            g_assert(((const DroverVsphereDisk *)vm->disks->pdata[j])->capacity_bytes <= G_MAXINT64);
        g_assert_nonnull(vm->name);
    }
}

static void as_areas(DroverSoapAnswer *answer)
{
    g_autoptr(DroverRangeset) areas = drover_rangeset_new();
    g_autoptr(GError) error = NULL;
    uint64_t next = 65536;
    bool ok = drover_vsphere_areas_add(drover_soap_answer_value(answer), CAPACITY, &next, areas, &error);
    g_assert(ok == (error == NULL));
    g_assert(ok == (next > 65536));
    size_t n = 0;
    const DroverRange *ranges = drover_rangeset_ranges(areas, &n);
    for (size_t i = 0; i < n; i++)
        g_assert(ranges[i].length <= CAPACITY && ranges[i].offset <= CAPACITY - ranges[i].length);
    drover_soap_answer_free(answer);
}

static void read_as_answers(const char *text, size_t size)
{
    static const char *const methods[] = {"RetrievePropertiesEx", "QueryChangedDiskAreas"};
    for (guint i = 0; i < G_N_ELEMENTS(methods); i++) {
        g_autoptr(GError) error = NULL;
        DroverSoapAnswer *answer = drover_soap_answer_parse(methods[i], text, size, &error);
        g_assert((answer == NULL) == (error != NULL));
        if (answer == NULL) {
            g_assert_true(g_str_has_prefix(error->message, "DRV-VCENTER-"));
            continue;
        }
        if (drover_soap_answer_fault(answer) != NULL) {
            g_autoptr(GError) fault = NULL;
            drover_vsphere_fault_fail(drover_soap_answer_fault(answer), methods[i], &fault);
            g_assert_nonnull(fault);
            drover_soap_answer_free(answer);
        } else if (i == 0) {
            as_properties(answer);
        } else {
            as_areas(answer);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    read_as_answers((const char *)data, size);
    /* Most mutations are no XML any more. What libxml2 makes of them all the same gets further. */
    xmlDoc *doc = xmlReadMemory((const char *)data, (int)size, NULL, "UTF-8",
                                XML_PARSE_RECOVER | XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    xmlChar *text = NULL;
    int len = 0;
    if (doc != NULL && xmlDocGetRootElement(doc) != NULL)
        xmlDocDumpMemoryEnc(doc, &text, &len, "UTF-8");
    xmlFreeDoc(doc);
    if (text != NULL)
        read_as_answers((const char *)text, (size_t)len);
    xmlFree(text);
    return 0;
}
