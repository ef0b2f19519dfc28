/* SPDX-License-Identifier: Apache-2.0 */
/* Answers as vCenter (prefixes soapenv, xsi) and Go's encoder (default namespaces, _XMLSchema-instance) write them. */
#ifndef DROVER_TESTS_UNIT_VSPHERE_ENVELOPE_H
#define DROVER_TESTS_UNIT_VSPHERE_ENVELOPE_H

#define VCENTER(body)                                                                                                   \
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"                                                                      \
    "<soapenv:Envelope xmlns:soapenc=\"http://schemas.xmlsoap.org/soap/encoding/\"\n"                                   \
    " xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\"\n"     \
    " xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">\n<soapenv:Body>\n" body                                  \
    "\n</soapenv:Body>\n</soapenv:Envelope>"

#define GO(body)                                                                                                        \
    "<Envelope xmlns=\"http://schemas.xmlsoap.org/soap/envelope/\"><Body>" body "</Body></Envelope>"

/* On the element that has the type: that is where Go declares it. */
#define GO_TYPE(type)                                                                                                   \
    "xmlns:_XMLSchema-instance=\"http://www.w3.org/2001/XMLSchema-instance\" _XMLSchema-instance:type=\"" type "\""

#endif
