/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SOAP 1.1 as the vSphere Web Services API speaks it: requests written, answers read. Pure, no I/O.
 *
 * Requests are written element by element in the order of the API's schema (its types are XML sequences: order
 * matters). Answers are read by namespace URI, never by prefix: elements in urn:vim25, xsi:type in XMLSchema-instance.
 * Answers come from outside: no document type (so no entities), nothing fetched, nesting bounded.
 */
#ifndef DROVER_LIB_VSPHERE_SOAP_H
#define DROVER_LIB_VSPHERE_SOAP_H

#include <glib.h>
#include <libxml/tree.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DROVER_VIM_NS "urn:vim25"
#define DROVER_SOAP_DEPTH_MAX 200

/* ---- requests */

typedef struct DroverSoapWriter DroverSoapWriter;

/* METHOD on the managed object MOREF of type THIS_TYPE. */
DroverSoapWriter *drover_soap_writer_new(const char *method, const char *this_type, const char *moref);
void drover_soap_writer_free(DroverSoapWriter *writer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverSoapWriter, drover_soap_writer_free)

void drover_soap_put_text(DroverSoapWriter *writer, const char *name, const char *value);
void drover_soap_put_int(DroverSoapWriter *writer, const char *name, int64_t value);
void drover_soap_put_bool(DroverSoapWriter *writer, const char *name, bool value);
void drover_soap_put_moref(DroverSoapWriter *writer, const char *name, const char *type, const char *moref);
/* TYPE is the xsi:type where the schema has a base type; NULL elsewhere. */
void drover_soap_put_open(DroverSoapWriter *writer, const char *name, const char *type);
void drover_soap_put_close(DroverSoapWriter *writer);
/* NODE of an answer with all below it, its types kept. */
void drover_soap_put_copy(DroverSoapWriter *writer, const xmlNode *node);
/* Ends the request; owned by WRITER, wiped with it (a login holds the password). */
const char *drover_soap_writer_end(DroverSoapWriter *writer, size_t *len);
const char *drover_soap_writer_method(const DroverSoapWriter *writer);
const char *drover_soap_writer_target(const DroverSoapWriter *writer); /* moref */

/* ---- answers */

/* What vCenter says went wrong; strings are never NULL. */
typedef struct {
    char *type;      /* e.g. "NoPermission"; "" when it did not say */
    char *message;   /* its own words */
    char *privilege; /* of NoPermission */
    char *property;  /* of InvalidArgument */
    char *object;    /* moref, of NoPermission and ManagedObjectNotFound */
} DroverVsphereFault;

void drover_vsphere_fault_free(DroverVsphereFault *fault);
DroverVsphereFault *drover_vsphere_fault_copy(const DroverVsphereFault *fault);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverVsphereFault, drover_vsphere_fault_free)
/* Of an element of type LocalizedMethodFault (task errors, missing properties). Never NULL. */
DroverVsphereFault *drover_soap_localized_fault(const xmlNode *node);

typedef struct DroverSoapAnswer DroverSoapAnswer;

/* The answer to METHOD. RETRYABLE DRV-VCENTER-UNREACHABLE when it is not whole XML (cut off) or no SOAP
 * (a proxy's page), PERMANENT DRV-VCENTER-ANSWER when it is SOAP but no answer to METHOD, or may not be looked at. A fault is an answer. */
DroverSoapAnswer *drover_soap_answer_parse(const char *method, const char *data, size_t len, GError **error);
void drover_soap_answer_free(DroverSoapAnswer *answer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DroverSoapAnswer, drover_soap_answer_free)

const DroverVsphereFault *drover_soap_answer_fault(const DroverSoapAnswer *answer); /* NULL: none */
/* The element <METHODResponse>; NULL with a fault. Nodes live as long as the answer. */
const xmlNode *drover_soap_answer_response(const DroverSoapAnswer *answer);
/* Its first <returnval>; NULL: nothing returned. */
const xmlNode *drover_soap_answer_value(const DroverSoapAnswer *answer);

/* First child NAME of PARENT, next sibling of the same name as NODE; NULL: none. Parents may be NULL. */
const xmlNode *drover_soap_child(const xmlNode *parent, const char *name);
const xmlNode *drover_soap_next(const xmlNode *node);
/* The node below PARENT along PATH, names joined by dots. */
const xmlNode *drover_soap_path(const xmlNode *parent, const char *path);
/* xsi:type without its prefix; "" when there is none. Newly allocated. */
char *drover_soap_type(const xmlNode *node);
/* The attribute type of a managed object reference. Newly allocated, "" when there is none. */
char *drover_soap_moref_type(const xmlNode *node);
/* Text of NODE, or of its descendant at PATH. Newly allocated, "" when there is none. */
char *drover_soap_content(const xmlNode *node);
char *drover_soap_text(const xmlNode *parent, const char *path);
int64_t drover_soap_int(const xmlNode *parent, const char *path, int64_t otherwise);
bool drover_soap_bool(const xmlNode *parent, const char *path); /* false when absent */

#endif
