/* SPDX-License-Identifier: Apache-2.0 */
/* Properties of managed objects by PropertyCollector.RetrievePropertiesEx, all pages of it. */
#ifndef DROVER_LIB_VSPHERE_PROPERTY_H
#define DROVER_LIB_VSPHERE_PROPERTY_H

#include "lib/vsphere/session.h"

typedef struct {
    const char *type;
    const char *const *paths; /* NULL-terminated */
} DroverVspherePropertySet;

/* A step from objects of TYPE along property PATH. From what a climbing step reaches, all climbing steps are tried again. */
typedef struct {
    const char *type;
    const char *path;
    bool climbs;
} DroverVsphereStep;

typedef struct {
    const DroverVspherePropertySet *sets;
    size_t n_sets;
    /* Either all objects of these types below the root folder (NULL-terminated) … */
    const char *const *all_of;
    /* … or the object and what the steps lead to. */
    const char *object_type;
    const char *moref;
    const DroverVsphereStep *steps;
    size_t n_steps;
} DroverVsphereQuestion;

typedef struct {
    char *type;
    char *moref;
    GHashTable *values;         /* path -> const xmlNode * <val>; lives as long as the properties */
    DroverVsphereFault *denied; /* the first property that could not be read; NULL: none */
} DroverVsphereObject;

typedef struct {
    GPtrArray *objects; /* DroverVsphereObject */
    GHashTable *by_moref;
    GPtrArray *answers; /* DroverSoapAnswer, which the values point into */
} DroverVsphereProperties;

/* One page at a time: ON_PAGE gets each, and NULL when all begins anew, because the session ended. An inventory of thousands
 * of VMs is not held in memory as XML. */
typedef void DroverVsphereOnPage(void *data, const DroverVsphereProperties *page);
bool drover_vsphere_retrieve_pages(DroverVsphere *vsphere, const DroverVsphereQuestion *question,
                                   DroverVsphereOnPage *on_page, void *data, GCancellable *cancel, GError **error);
/* All pages in one. */
DroverVsphereProperties *drover_vsphere_retrieve(DroverVsphere *vsphere, const DroverVsphereQuestion *question,
                                                 GCancellable *cancel, GError **error);
DroverVsphereProperties *drover_vsphere_properties_new(void);
void drover_vsphere_properties_free(DroverVsphereProperties *properties);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverVsphereProperties, drover_vsphere_properties_free)
/* Adds the objects of a RetrieveResult, the value of ANSWER, which is taken over. */
void drover_vsphere_properties_add(DroverVsphereProperties *properties, DroverSoapAnswer *answer);

/* NULL: not told of. */
const DroverVsphereObject *drover_vsphere_object(const DroverVsphereProperties *properties, const char *moref);
/* <val> of property PATH; NULL: unset, not asked for, or denied. OBJECT may be NULL. */
const xmlNode *drover_vsphere_value(const DroverVsphereObject *object, const char *path);
char *drover_vsphere_value_text(const DroverVsphereObject *object, const char *path); /* never NULL */
bool drover_vsphere_value_bool(const DroverVsphereObject *object, const char *path);

#endif
