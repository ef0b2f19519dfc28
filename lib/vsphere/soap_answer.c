/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/vsphere/soap.h"

#include <libxml/parser.h>
#include <libxml/parserInternals.h>
#include <libxml/SAX2.h>
#include <limits.h>
#include <string.h>

#include "lib/base/error.h"

#define SOAP_NS "http://schemas.xmlsoap.org/soap/envelope/"
#define XSI_NS "http://www.w3.org/2001/XMLSchema-instance"

#define FAULT_WORDS_MAX 2000

struct DroverSoapAnswer {
    xmlDoc *doc;
    const xmlNode *response;
    DroverVsphereFault *fault;
};

/* ---- reading XML that cannot be trusted ------------------------------------------------------------------------ */

typedef struct {
    int depth;
    const char *refused; /* why, NULL: not */
} Watch;

static void refuse(xmlParserCtxt *parser, const char *why)
{
    Watch *watch = parser->_private;
    watch->refused = why;
    xmlStopParser(parser);
}

static void on_doctype(void *data, const xmlChar *name, const xmlChar *external, const xmlChar *system)
{
    (void)name;
    (void)external;
    (void)system;
    refuse(data, "it declares a document type, which SOAP forbids");
}

static void on_start(void *data, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri, int n_namespaces,
                     const xmlChar **namespaces, int n_attributes, int n_defaulted, const xmlChar **attributes)
{
    xmlParserCtxt *parser = data;
    Watch *watch = parser->_private;
    if (watch->refused != NULL)
        return;
    if (++watch->depth > DROVER_SOAP_DEPTH_MAX) {
        refuse(parser, "it is nested too deeply");
        return;
    }
    xmlSAX2StartElementNs(data, name, prefix, uri, n_namespaces, namespaces, n_attributes, n_defaulted, attributes);
}

static void on_end(void *data, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri)
{
    xmlParserCtxt *parser = data;
    Watch *watch = parser->_private;
    if (watch->refused != NULL)
        return;
    watch->depth--;
    xmlSAX2EndElementNs(data, name, prefix, uri);
}

static bool refuse_answer(const char *method, const char *why, GError **error)
{
    return drover_fail(error, DROVER_ERROR_PERMANENT, "DRV-VCENTER-ANSWER: vCenter's answer to %s is not understood: %s",
                       method, why);
}

/* Without one libxml2 writes to stderr what it has no parser to blame for. */
static void keep_quiet(void *data, xmlError *why)
{
    (void)data;
    (void)why;
}

static xmlDoc *read_document(const char *method, const char *data, size_t len, GError **error)
{
    static gsize once = 0;
    if (g_once_init_enter(&once)) {
        xmlInitParser();
        g_once_init_leave(&once, 1);
    }
    if (len > INT_MAX) {
        refuse_answer(method, "it is too large", error);
        return NULL;
    }
    Watch watch = {0};
    xmlParserCtxt *parser = xmlNewParserCtxt();
    g_assert(parser != NULL);
    parser->_private = &watch;
    parser->sax->internalSubset = on_doctype;
    parser->sax->startElementNs = on_start;
    parser->sax->endElementNs = on_end;
    xmlSetStructuredErrorFunc(NULL, keep_quiet); /* of this thread */
    /* Always UTF-8, whatever an answer claims: no other decoder gets to see it. */
    xmlDoc *doc = xmlCtxtReadMemory(parser, data, (int)len, NULL, "UTF-8",
                                    XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_COMPACT);
    xmlSetStructuredErrorFunc(NULL, NULL);
    if (watch.refused != NULL) {
        refuse_answer(method, watch.refused, error);
        xmlFreeDoc(doc);
        doc = NULL;
    } else if (doc == NULL) {
        const xmlError *why = xmlCtxtGetLastError(parser);
        g_autofree char *text = g_strdup(why && why->message ? why->message : "it is empty");
        drover_fail(error, DROVER_ERROR_RETRYABLE, "DRV-VCENTER-UNREACHABLE: vCenter's answer to %s is not whole: %s",
                    method, g_strchomp(text));
    }
    xmlFreeParserCtxt(parser);
    return doc;
}

/* ---- looking around -------------------------------------------------------------------------------------------- */

static bool is_element(const xmlNode *node, const char *ns, const char *name)
{
    if (node->type != XML_ELEMENT_NODE || strcmp((const char *)node->name, name) != 0)
        return false;
    const char *has = node->ns != NULL ? (const char *)node->ns->href : NULL;
    return ns == NULL || (has != NULL && strcmp(has, ns) == 0);
}

static const xmlNode *find(const xmlNode *from, const char *ns, const char *name)
{
    for (; from != NULL; from = from->next)
        if (is_element(from, ns, name))
            return from;
    return NULL;
}

const xmlNode *drover_soap_child(const xmlNode *parent, const char *name)
{
    return parent != NULL ? find(parent->children, DROVER_VIM_NS, name) : NULL;
}

const xmlNode *drover_soap_next(const xmlNode *node)
{
    return node != NULL ? find(node->next, DROVER_VIM_NS, (const char *)node->name) : NULL;
}

const xmlNode *drover_soap_path(const xmlNode *parent, const char *path)
{
    while (parent != NULL && *path) {
        size_t len = strcspn(path, ".");
        g_autofree char *name = g_strndup(path, len);
        parent = drover_soap_child(parent, name);
        path += len + (path[len] == '.');
    }
    return parent;
}

char *drover_soap_content(const xmlNode *node)
{
    GString *text = g_string_new(NULL);
    for (const xmlNode *part = node ? node->children : NULL; part; part = part->next)
        if (part->type == XML_TEXT_NODE || part->type == XML_CDATA_SECTION_NODE)
            g_string_append(text, (const char *)part->content);
    return g_string_free(text, FALSE);
}

char *drover_soap_text(const xmlNode *parent, const char *path)
{
    return drover_soap_content(drover_soap_path(parent, path));
}

int64_t drover_soap_int(const xmlNode *parent, const char *path, int64_t otherwise)
{
    g_autofree char *text = drover_soap_text(parent, path);
    gint64 value = 0;
    return g_ascii_string_to_signed(g_strstrip(text), 10, G_MININT64, G_MAXINT64, &value, NULL) ? value : otherwise;
}

bool drover_soap_bool(const xmlNode *parent, const char *path)
{
    g_autofree char *text = drover_soap_text(parent, path);
    g_strstrip(text);
    return strcmp(text, "true") == 0 || strcmp(text, "1") == 0;
}

char *drover_soap_type(const xmlNode *node)
{
    xmlChar *raw = node ? xmlGetNsProp((xmlNode *)node, (const xmlChar *)"type", (const xmlChar *)XSI_NS) : NULL;
    const char *colon = raw ? strrchr((const char *)raw, ':') : NULL;
    char *type = g_strdup(colon ? colon + 1 : raw ? (const char *)raw : "");
    xmlFree(raw);
    return g_strstrip(type);
}

char *drover_soap_moref_type(const xmlNode *node)
{
    xmlChar *raw = node ? xmlGetNoNsProp((xmlNode *)node, (const xmlChar *)"type") : NULL;
    char *type = g_strdup(raw ? (const char *)raw : "");
    xmlFree(raw);
    return type;
}

/* ---- faults ---------------------------------------------------------------------------------------------------- */

void drover_vsphere_fault_free(DroverVsphereFault *fault)
{
    if (fault == NULL)
        return;
    g_free(fault->type);
    g_free(fault->message);
    g_free(fault->privilege);
    g_free(fault->property);
    g_free(fault->object);
    g_free(fault);
}

DroverVsphereFault *drover_vsphere_fault_copy(const DroverVsphereFault *fault)
{
    DroverVsphereFault *copy = g_new0(DroverVsphereFault, 1);
    copy->type = g_strdup(fault->type);
    copy->message = g_strdup(fault->message);
    copy->privilege = g_strdup(fault->privilege);
    copy->property = g_strdup(fault->property);
    copy->object = g_strdup(fault->object);
    return copy;
}

/* What vCenter says in general, then what its hosts said in particular ("consolidation failed": "the disk is locked"). */
static char *words_of(const xmlNode *detail, const char *general)
{
    g_autoptr(GString) words = g_string_new(general);
    const xmlNode *more = drover_soap_child(detail, "faultMessage");
    for (; more != NULL && words->len < FAULT_WORDS_MAX; more = drover_soap_next(more)) {
        g_autofree char *text = drover_soap_text(more, "message");
        g_strstrip(text);
        if (*text && strstr(words->str, text) == NULL)
            g_string_append_printf(words, "%s%s", words->len > 0 ? " " : "", text);
    }
    if (words->len == 0) {
        g_autofree char *reason = drover_soap_text(detail, "reason"); /* of SystemError and some others */
        g_string_append(words, g_strstrip(reason));
    }
    if (words->len > FAULT_WORDS_MAX) {
        g_string_truncate(words, FAULT_WORDS_MAX);
        return g_utf8_make_valid(words->str, -1);
    }
    return g_string_free(g_steal_pointer(&words), FALSE);
}

/* DETAIL: an element of a MethodFault's type; MESSAGE is taken over. */
static DroverVsphereFault *fault_new(const xmlNode *detail, char *message)
{
    DroverVsphereFault *fault = g_new0(DroverVsphereFault, 1);
    fault->type = drover_soap_type(detail);
    fault->message = words_of(detail, g_strstrip(message));
    g_free(message);
    fault->privilege = drover_soap_text(detail, "privilegeId");
    fault->property = drover_soap_text(detail, "invalidProperty");
    fault->object = drover_soap_text(detail, drover_soap_child(detail, "obj") ? "obj" : "object");
    return fault;
}

DroverVsphereFault *drover_soap_localized_fault(const xmlNode *node)
{
    return fault_new(drover_soap_child(node, "fault"), drover_soap_text(node, "localizedMessage"));
}

/* Children of a SOAP 1.1 fault have no namespace; some servers give them one. */
static DroverVsphereFault *read_fault(const xmlNode *node)
{
    const xmlNode *detail = find(node->children, NULL, "detail");
    const xmlNode *typed = detail ? detail->children : NULL;
    while (typed != NULL && typed->type != XML_ELEMENT_NODE)
        typed = typed->next;
    DroverVsphereFault *fault = fault_new(typed, drover_soap_content(find(node->children, NULL, "faultstring")));
    if (*fault->type == '\0' && typed != NULL) {
        const char *name = (const char *)typed->name; /* "NotAuthenticatedFault" is of type NotAuthenticated */
        size_t len = strlen(name) - (g_str_has_suffix(name, "Fault") ? strlen("Fault") : 0);
        g_free(fault->type);
        fault->type = g_strndup(name, len);
    }
    return fault;
}

/* ---- answers --------------------------------------------------------------------------------------------------- */

DroverSoapAnswer *drover_soap_answer_parse(const char *method, const char *data, size_t len, GError **error)
{
    xmlDoc *doc = read_document(method, data, len, error);
    if (doc == NULL)
        return NULL;
    g_autoptr(DroverSoapAnswer) answer = g_new0(DroverSoapAnswer, 1);
    answer->doc = doc;
    const xmlNode *root = xmlDocGetRootElement(doc);
    const xmlNode *body = root && is_element(root, SOAP_NS, "Envelope") ? find(root->children, SOAP_NS, "Body") : NULL;
    if (body == NULL) {
        drover_fail(error, DROVER_ERROR_RETRYABLE,
                    "DRV-VCENTER-UNREACHABLE: not vCenter's SDK answers %s, but something without a SOAP envelope: a proxy, or "
                    "another address than /sdk", method);
        return NULL;
    }
    const xmlNode *fault = find(body->children, SOAP_NS, "Fault");
    if (fault != NULL) {
        answer->fault = read_fault(fault);
        return g_steal_pointer(&answer);
    }
    g_autofree char *expected = g_strconcat(method, "Response", NULL);
    answer->response = find(body->children, DROVER_VIM_NS, expected);
    if (answer->response == NULL) {
        refuse_answer(method, "it answers another call", error);
        return NULL;
    }
    return g_steal_pointer(&answer);
}

void drover_soap_answer_free(DroverSoapAnswer *answer)
{
    if (answer == NULL)
        return;
    xmlFreeDoc(answer->doc);
    drover_vsphere_fault_free(answer->fault);
    g_free(answer);
}

const DroverVsphereFault *drover_soap_answer_fault(const DroverSoapAnswer *answer)
{
    return answer->fault;
}

const xmlNode *drover_soap_answer_response(const DroverSoapAnswer *answer)
{
    return answer->response;
}

const xmlNode *drover_soap_answer_value(const DroverSoapAnswer *answer)
{
    return drover_soap_child(answer->response, "returnval");
}
