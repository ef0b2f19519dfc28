/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/vsphere/property.h"

#include <string.h>

#include "lib/base/error.h"
#include "lib/vsphere/fault.h"

/* Objects of one answer: a VM is some 20 KB of XML. */
#define PAGE 200

/* ---- what was found -------------------------------------------------------------------------------------------- */

static void object_free(gpointer data)
{
    DroverVsphereObject *object = data;
    g_free(object->type);
    g_free(object->moref);
    g_hash_table_unref(object->values);
    drover_vsphere_fault_free(object->denied);
    g_free(object);
}

static void answer_free(gpointer data)
{
    drover_soap_answer_free(data);
}

DroverVsphereProperties *drover_vsphere_properties_new(void)
{
    DroverVsphereProperties *properties = g_new0(DroverVsphereProperties, 1);
    properties->objects = g_ptr_array_new_with_free_func(object_free);
    properties->by_moref = g_hash_table_new(g_str_hash, g_str_equal);
    properties->answers = g_ptr_array_new_with_free_func(answer_free);
    return properties;
}

void drover_vsphere_properties_free(DroverVsphereProperties *properties)
{
    if (properties == NULL)
        return;
    g_hash_table_unref(properties->by_moref);
    g_ptr_array_unref(properties->objects);
    g_ptr_array_unref(properties->answers);
    g_free(properties);
}

static DroverVsphereObject *object_for(DroverVsphereProperties *properties, const xmlNode *reference)
{
    g_autofree char *moref = drover_soap_content(reference);
    DroverVsphereObject *object = g_hash_table_lookup(properties->by_moref, moref);
    if (object != NULL)
        return object;
    object = g_new0(DroverVsphereObject, 1);
    object->type = drover_soap_moref_type(reference);
    object->moref = g_steal_pointer(&moref);
    object->values = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_ptr_array_add(properties->objects, object);
    g_hash_table_insert(properties->by_moref, object->moref, object);
    return object;
}

void drover_vsphere_properties_add(DroverVsphereProperties *properties, DroverSoapAnswer *answer)
{
    g_ptr_array_add(properties->answers, answer);
    const xmlNode *content = drover_soap_child(drover_soap_answer_value(answer), "objects");
    for (; content; content = drover_soap_next(content)) {
        DroverVsphereObject *object = object_for(properties, drover_soap_child(content, "obj"));
        const xmlNode *set = drover_soap_child(content, "propSet");
        for (; set; set = drover_soap_next(set))
            g_hash_table_insert(object->values, drover_soap_text(set, "name"), (gpointer)drover_soap_child(set, "val"));
        const xmlNode *missing = drover_soap_child(content, "missingSet");
        if (missing != NULL && object->denied == NULL)
            object->denied = drover_soap_localized_fault(drover_soap_child(missing, "fault"));
    }
}

const DroverVsphereObject *drover_vsphere_object(const DroverVsphereProperties *properties, const char *moref)
{
    return g_hash_table_lookup(properties->by_moref, moref);
}

const xmlNode *drover_vsphere_value(const DroverVsphereObject *object, const char *path)
{
    return object != NULL ? g_hash_table_lookup(object->values, path) : NULL;
}

char *drover_vsphere_value_text(const DroverVsphereObject *object, const char *path)
{
    return drover_soap_content(drover_vsphere_value(object, path));
}

bool drover_vsphere_value_bool(const DroverVsphereObject *object, const char *path)
{
    return drover_soap_bool(drover_vsphere_value(object, path), "");
}

/* ---- asking ---------------------------------------------------------------------------------------------------- */

static void put_step(DroverSoapWriter *request, const DroverVsphereQuestion *question, size_t i)
{
    char name[32];
    drover_soap_put_open(request, "selectSet", "TraversalSpec");
    g_snprintf(name, sizeof name, "step%zu", i);
    drover_soap_put_text(request, "name", name);
    drover_soap_put_text(request, "type", question->steps[i].type);
    drover_soap_put_text(request, "path", question->steps[i].path);
    drover_soap_put_bool(request, "skip", false);
    for (size_t j = 0; question->steps[i].climbs && j < question->n_steps; j++) {
        if (!question->steps[j].climbs)
            continue;
        drover_soap_put_open(request, "selectSet", NULL);
        g_snprintf(name, sizeof name, "step%zu", j);
        drover_soap_put_text(request, "name", name);
        drover_soap_put_close(request);
    }
    drover_soap_put_close(request);
}

static void put_view(DroverSoapWriter *request)
{
    drover_soap_put_open(request, "selectSet", "TraversalSpec");
    drover_soap_put_text(request, "type", "ContainerView");
    drover_soap_put_text(request, "path", "view");
    drover_soap_put_bool(request, "skip", false);
    drover_soap_put_close(request);
}

static DroverSoapWriter *first_page(const DroverVsphere *vsphere, const DroverVsphereQuestion *question, const char *view)
{
    DroverSoapWriter *request =
        drover_vsphere_service_request(vsphere, "RetrievePropertiesEx", DROVER_VSPHERE_PROPERTY_COLLECTOR);
    drover_soap_put_open(request, "specSet", NULL);
    for (size_t i = 0; i < question->n_sets; i++) {
        drover_soap_put_open(request, "propSet", NULL);
        drover_soap_put_text(request, "type", question->sets[i].type);
        for (const char *const *path = question->sets[i].paths; *path; path++)
            drover_soap_put_text(request, "pathSet", *path);
        drover_soap_put_close(request);
    }
    drover_soap_put_open(request, "objectSet", NULL);
    if (view != NULL) {
        drover_soap_put_moref(request, "obj", "ContainerView", view);
        drover_soap_put_bool(request, "skip", true);
        put_view(request);
    } else {
        drover_soap_put_moref(request, "obj", question->object_type, question->moref);
        drover_soap_put_bool(request, "skip", false);
        for (size_t i = 0; i < question->n_steps; i++)
            put_step(request, question, i);
    }
    drover_soap_put_close(request);
    drover_soap_put_close(request);
    drover_soap_put_open(request, "options", NULL);
    drover_soap_put_int(request, "maxObjects", PAGE);
    drover_soap_put_close(request);
    return request;
}

typedef struct {
    DroverVsphereOnPage *on_page;
    void *data;
} Taker;

/* REQUEST, of what hangs on VIEW unless that is NULL, and all that follow from it; WHAT is for messages. */
static bool all_pages(DroverVsphere *vsphere, DroverSoapWriter *request, const char *view, const char *what,
                      const DroverVsphereHow *how, const Taker *taker, GError **error)
{
    DroverVsphereHow asking = *how;
    asking.take_faults = true;
    for (;;) {
        g_autoptr(DroverSoapAnswer) answer = drover_vsphere_call(vsphere, request, &asking, error);
        if (answer == NULL)
            return false;
        const DroverVsphereFault *fault = drover_soap_answer_fault(answer);
        if (fault != NULL) {
            /* A view that is gone went with its session. */
            *how->expired |= view != NULL && drover_vsphere_fault_is(fault, "ManagedObjectNotFound") &&
                             strcmp(fault->object, view) == 0;
            return drover_vsphere_fault_fail(fault, what, error);
        }
        g_autofree char *token = drover_soap_text(drover_soap_answer_value(answer), "token");
        g_autoptr(DroverVsphereProperties) page = drover_vsphere_properties_new();
        drover_vsphere_properties_add(page, g_steal_pointer(&answer));
        taker->on_page(taker->data, page);
        if (*token == '\0')
            return true;
        if (page->objects->len == 0)
            return drover_fail(error, DROVER_ERROR_PERMANENT,
                               "DRV-VCENTER-ANSWER: vCenter promises more objects and sends none (%s)", what);
        request = drover_vsphere_service_request(vsphere, "ContinueRetrievePropertiesEx", DROVER_VSPHERE_PROPERTY_COLLECTOR);
        drover_soap_put_text(request, "token", token);
    }
}

static char *open_view(DroverVsphere *vsphere, const char *const *types, const DroverVsphereHow *how, GError **error)
{
    DroverSoapWriter *request = drover_vsphere_service_request(vsphere, "CreateContainerView", DROVER_VSPHERE_VIEW_MANAGER);
    drover_soap_put_moref(request, "container", "Folder",
                          drover_vsphere_service_moref(vsphere, DROVER_VSPHERE_ROOT_FOLDER));
    for (; *types; types++)
        drover_soap_put_text(request, "type", *types);
    drover_soap_put_bool(request, "recursive", true);
    g_autoptr(DroverSoapAnswer) answer = drover_vsphere_call(vsphere, request, how, error);
    return answer != NULL ? drover_soap_content(drover_soap_answer_value(answer)) : NULL;
}

static void close_view(DroverVsphere *vsphere, const char *view, const DroverVsphereHow *how)
{
    bool expired = false;
    DroverVsphereHow quietly = {.cancel = how->cancel, .take_faults = true, .expired = &expired};
    g_autoptr(DroverSoapAnswer) unused =
        drover_vsphere_call(vsphere, drover_soap_writer_new("DestroyView", "ContainerView", view), &quietly, NULL);
}

static bool retrieve_once(DroverVsphere *vsphere, const DroverVsphereQuestion *question, const DroverVsphereHow *how,
                          const Taker *taker, GError **error)
{
    if (question->all_of == NULL) {
        g_autofree char *what = g_strdup_printf("RetrievePropertiesEx of %s", question->moref);
        return all_pages(vsphere, first_page(vsphere, question, NULL), NULL, what, how, taker, error);
    }
    g_autofree char *view = open_view(vsphere, question->all_of, how, error);
    if (view == NULL)
        return false;
    bool ok = all_pages(vsphere, first_page(vsphere, question, view), view, "RetrievePropertiesEx of the inventory", how,
                        taker, error);
    if (!*how->expired)
        close_view(vsphere, view, how);
    return ok;
}

bool drover_vsphere_retrieve_pages(DroverVsphere *vsphere, const DroverVsphereQuestion *question,
                                   DroverVsphereOnPage *on_page, void *data, GCancellable *cancel, GError **error)
{
    const Taker taker = {on_page, data};
    /* Views and page tokens end with their session: then all is asked again. A session may be found dead twice, by its view
     * that is gone and by the next call. */
    for (int left = question->all_of != NULL ? 2 : 1;; left--) {
        bool expired = false;
        DroverVsphereHow how = {.cancel = cancel, .expired = &expired};
        g_autoptr(GError) why = NULL;
        bool ok = retrieve_once(vsphere, question, &how, &taker, &why);
        if (!ok && expired && left > 0) {
            on_page(data, NULL);
            continue;
        }
        if (!ok)
            g_propagate_error(error, g_steal_pointer(&why));
        return ok;
    }
}

/* All pages become one: the answers go over, for the values point into them. */
static void gather(void *data, const DroverVsphereProperties *page)
{
    DroverVsphereProperties **all = data;
    if (page == NULL) {
        drover_vsphere_properties_free(*all);
        *all = drover_vsphere_properties_new();
        return;
    }
    while (page->answers->len > 0)
        drover_vsphere_properties_add(*all, g_ptr_array_steal_index(page->answers, 0));
}

DroverVsphereProperties *drover_vsphere_retrieve(DroverVsphere *vsphere, const DroverVsphereQuestion *question,
                                                 GCancellable *cancel, GError **error)
{
    g_autoptr(DroverVsphereProperties) all = drover_vsphere_properties_new();
    return drover_vsphere_retrieve_pages(vsphere, question, gather, &all, cancel, error) ? g_steal_pointer(&all) : NULL;
}
