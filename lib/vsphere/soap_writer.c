/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/vsphere/soap.h"

#include <libxml/xmlwriter.h>
#include <string.h>

#define SOAP_NS "http://schemas.xmlsoap.org/soap/envelope/"
#define XSI_NS "http://www.w3.org/2001/XMLSchema-instance"
#define XSD_NS "http://www.w3.org/2001/XMLSchema"

struct DroverSoapWriter {
    xmlBufferPtr buffer;
    xmlTextWriterPtr xml;
    char *method;
    char *target;
};

/* libxml2 fails only for want of memory here, or when calls do not nest: both are the end, as everywhere with GLib. */
static void done(int result)
{
    g_assert(result >= 0);
}

static const xmlChar *x(const char *text)
{
    return (const xmlChar *)text;
}

/* XML 1.0 has no way to write most control characters, not even escaped. */
static char *writable(const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    GString *out = g_string_sized_new(strlen(valid));
    for (const char *c = valid; *c; c = g_utf8_next_char(c)) {
        gunichar u = g_utf8_get_char(c);
        bool ok = u == '\t' || u == '\n' || u == '\r' || (u >= 0x20 && u != 0xfffe && u != 0xffff);
        g_string_append_unichar(out, ok ? u : 0xfffd);
    }
    return g_string_free(out, FALSE);
}

static void forget(char *secret)
{
    explicit_bzero(secret, strlen(secret));
    g_free(secret);
}

static void attribute(DroverSoapWriter *writer, const char *name, const char *value)
{
    done(xmlTextWriterWriteAttribute(writer->xml, x(name), x(value)));
}

static void content(DroverSoapWriter *writer, const char *text)
{
    char *clean = writable(text);
    done(xmlTextWriterWriteString(writer->xml, x(clean)));
    forget(clean);
}

DroverSoapWriter *drover_soap_writer_new(const char *method, const char *this_type, const char *moref)
{
    DroverSoapWriter *writer = g_new0(DroverSoapWriter, 1);
    writer->method = g_strdup(method);
    writer->target = g_strdup(moref);
    writer->buffer = xmlBufferCreateSize(4096);
    writer->xml = xmlNewTextWriterMemory(writer->buffer, 0);
    g_assert(writer->buffer != NULL && writer->xml != NULL);
    done(xmlTextWriterStartDocument(writer->xml, NULL, "UTF-8", NULL));
    done(xmlTextWriterStartElement(writer->xml, x("soapenv:Envelope")));
    attribute(writer, "xmlns:soapenv", SOAP_NS);
    attribute(writer, "xmlns:xsi", XSI_NS);
    attribute(writer, "xmlns:xsd", XSD_NS);
    done(xmlTextWriterStartElement(writer->xml, x("soapenv:Body")));
    done(xmlTextWriterStartElement(writer->xml, x(method)));
    attribute(writer, "xmlns", DROVER_VIM_NS);
    drover_soap_put_moref(writer, "_this", this_type, moref);
    return writer;
}

void drover_soap_writer_free(DroverSoapWriter *writer)
{
    if (writer == NULL)
        return;
    if (writer->xml != NULL)
        xmlFreeTextWriter(writer->xml);
    explicit_bzero(writer->buffer->content, writer->buffer->use);
    xmlBufferFree(writer->buffer);
    g_free(writer->method);
    g_free(writer->target);
    g_free(writer);
}

void drover_soap_put_open(DroverSoapWriter *writer, const char *name, const char *type)
{
    done(xmlTextWriterStartElement(writer->xml, x(name)));
    if (type != NULL)
        attribute(writer, "xsi:type", type);
}

void drover_soap_put_close(DroverSoapWriter *writer)
{
    done(xmlTextWriterEndElement(writer->xml));
}

void drover_soap_put_text(DroverSoapWriter *writer, const char *name, const char *value)
{
    drover_soap_put_open(writer, name, NULL);
    content(writer, value);
    drover_soap_put_close(writer);
}

void drover_soap_put_int(DroverSoapWriter *writer, const char *name, int64_t value)
{
    char text[32];
    g_snprintf(text, sizeof text, "%" G_GINT64_FORMAT, value);
    drover_soap_put_text(writer, name, text);
}

void drover_soap_put_bool(DroverSoapWriter *writer, const char *name, bool value)
{
    drover_soap_put_text(writer, name, value ? "true" : "false");
}

void drover_soap_put_moref(DroverSoapWriter *writer, const char *name, const char *type, const char *moref)
{
    drover_soap_put_open(writer, name, NULL);
    g_autofree char *clean = writable(type);
    attribute(writer, "type", clean);
    content(writer, moref);
    drover_soap_put_close(writer);
}

/* Types of XML Schema itself are written with our prefix; all others are of vim25, the default namespace. */
static void copy_type(DroverSoapWriter *writer, const xmlNode *node)
{
    xmlChar *raw = xmlGetNsProp((xmlNode *)node, x("type"), x(XSI_NS));
    if (raw == NULL)
        return;
    const char *colon = strchr((const char *)raw, ':');
    g_autofree char *prefix = colon ? g_strndup((const char *)raw, (gsize)(colon - (const char *)raw)) : NULL;
    const xmlNs *ns = xmlSearchNs(node->doc, (xmlNode *)node, x(prefix));
    bool is_xsd = ns != NULL && ns->href != NULL && strcmp((const char *)ns->href, XSD_NS) == 0;
    g_autofree char *type = g_strconcat(is_xsd ? "xsd:" : "", colon ? colon + 1 : (const char *)raw, NULL);
    attribute(writer, "xsi:type", type);
    xmlFree(raw);
}

void drover_soap_put_copy(DroverSoapWriter *writer, const xmlNode *node)
{
    drover_soap_put_open(writer, (const char *)node->name, NULL);
    copy_type(writer, node);
    xmlChar *moref_type = xmlGetNoNsProp((xmlNode *)node, x("type"));
    if (moref_type != NULL)
        attribute(writer, "type", (const char *)moref_type);
    xmlFree(moref_type);
    bool has_elements = false;
    for (const xmlNode *child = node->children; child; child = child->next)
        has_elements |= child->type == XML_ELEMENT_NODE;
    if (has_elements) {
        for (const xmlNode *child = node->children; child; child = child->next)
            if (child->type == XML_ELEMENT_NODE)
                drover_soap_put_copy(writer, child);
    } else {
        g_autofree char *text = drover_soap_content(node);
        content(writer, text);
    }
    drover_soap_put_close(writer);
}

const char *drover_soap_writer_end(DroverSoapWriter *writer, size_t *len)
{
    if (writer->xml != NULL) {
        done(xmlTextWriterEndDocument(writer->xml));
        xmlFreeTextWriter(writer->xml);
        writer->xml = NULL;
    }
    *len = (size_t)xmlBufferLength(writer->buffer);
    return (const char *)xmlBufferContent(writer->buffer);
}

const char *drover_soap_writer_method(const DroverSoapWriter *writer)
{
    return writer->method;
}

const char *drover_soap_writer_target(const DroverSoapWriter *writer)
{
    return writer->target;
}
