# SPDX-License-Identifier: Apache-2.0
"""A few calls of the vSphere API, made by hand: what the tests of the vCenter stand-in say to it."""

import http.client
import re
import xml.etree.ElementTree as tree
from xml.sax.saxutils import escape

ENVELOPE = ('<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
            'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><s:Body><{m} xmlns="urn:vim25">'
            '<_this type="{t}">{o}</_this>{i}</{m}></s:Body></s:Envelope>')
TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"


class Fault(Exception):
    """The type of a fault and its message."""


def local(element):
    return element.tag.rpartition("}")[2]


def first(element, name):
    return next((e for e in element.iter() if local(e) == name), None)


class Soap:
    """One session with a Vcsim."""

    SNAPSHOT = "<name>{}</name><memory>false</memory><quiesce>{}</quiesce>"

    def __init__(self, vcsim):
        self.vcsim, self.session = vcsim, None

    def call(self, method, kind, moref, inside, action="urn:vim25/8.0.2.0"):
        """The response element; Fault with "TYPE: message" otherwise."""
        body = ENVELOPE.format(m=method, t=kind, o=moref, i=inside)
        connection = http.client.HTTPSConnection("127.0.0.1", self.vcsim.port, context=self.vcsim.context, timeout=60)
        headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": action}
        if self.session:
            headers["Cookie"] = f"vmware_soap_session={self.session}"
        connection.request("POST", "/sdk", body, headers)
        answer = connection.getresponse()
        root = tree.fromstring(answer.read())
        cookie = re.search(r"vmware_soap_session=([^;]+)", answer.getheader("Set-Cookie") or "")
        connection.close()
        if cookie:
            self.session = cookie.group(1).strip('"')
        if answer.status != 200:
            detail = first(root, "detail")[0]
            raise Fault(f"{detail.get(TYPE)}: {first(root, 'faultstring').text}")
        return root

    def login(self, password=None):
        self.session = None
        self.call("Login", "SessionManager", "SessionManager", f"<userName>{escape(self.vcsim.user)}</userName>"
                  f"<password>{escape(password or self.vcsim.password)}</password>")

    def properties(self, kind, moref, *paths):
        inside = ("<specSet><propSet><type>{}</type>{}</propSet><objectSet><obj type=\"{}\">{}</obj></objectSet></specSet><options/>"
                  .format(kind, "".join(f"<pathSet>{p}</pathSet>" for p in paths), kind, moref))
        answer = self.call("RetrievePropertiesEx", "PropertyCollector", "propertyCollector", inside)
        return {first(p, "name").text: first(p, "val") for p in answer.iter() if local(p) == "propSet"}

    def start(self, method, moref, inside, kind="VirtualMachine"):
        return first(self.call(method, kind, moref, inside), "returnval").text

    def task_state(self, task):
        """(state, progress as text)"""
        found = self.properties("Task", task, "info")["info"]
        progress = first(found, "progress")
        return first(found, "state").text, "" if progress is None else progress.text

    def finish(self, task):
        """Waits for a task; its result."""
        while True:
            info = self.properties("Task", task, "info")["info"]
            state = first(info, "state").text
            if state == "error":
                error = first(info, "error")
                raise Fault(f"{first(error, 'fault').get(TYPE)}: {first(error, 'localizedMessage').text}")
            if state == "success":
                result = first(info, "result")
                return None if result is None else result.text

    def task(self, method, moref, inside, kind="VirtualMachine"):
        return self.finish(self.start(method, moref, inside, kind))

    def snapshot(self, moref, name, quiesce=False):
        return self.task("CreateSnapshot_Task", moref, self.SNAPSHOT.format(name, str(quiesce).lower()))

    def remove(self, snapshot):
        self.task("RemoveSnapshot_Task", snapshot, "<removeChildren>false</removeChildren>", "VirtualMachineSnapshot")

    def areas(self, moref, snapshot, key, since, capacity):
        """([(start, length)], number of calls)"""
        found, at, calls = [], 0, 0
        while at < capacity:
            answer = first(self.call("QueryChangedDiskAreas", "VirtualMachine", moref,
                                     f'<snapshot type="VirtualMachineSnapshot">{snapshot}</snapshot><deviceKey>{key}</deviceKey>'
                                     f"<startOffset>{at}</startOffset><changeId>{since}</changeId>"), "returnval")
            for area in (e for e in answer if local(e) == "changedArea"):
                found.append((int(first(area, "start").text), int(first(area, "length").text)))
            at += int(next(e for e in answer if local(e) == "length").text)
            calls += 1
        return found, calls
