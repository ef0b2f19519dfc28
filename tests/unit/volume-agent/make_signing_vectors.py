#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes signing_vectors.inc: bodies of requests as the Python client "cs" signs them (made with its version 5.2.0).

Run by hand, with cs installed: make_signing_vectors.py > signing_vectors.inc

cs leaves '~' as it is since Python 3.7; Java's URLEncoder, with which the server checks, writes %7E. Vectors with a '~' are
therefore signed by cs with that one character put right, and say so.
"""
import cs.client

SECRET = "sEcr3t-of-nobody"
AWKWARD = {
    "star": "a*b**",
    "space": " a  b ",
    "plus": "a+b + c",
    "slash": "/dev/vd b//",
    "empty": "",
    "tilde": "~a~ b~",
    "unicode, two bytes": "Zürich é ÀÉ",
    "unicode, three bytes": "名前 €",
    "unicode, four bytes": "disk 😀",
    "percent": "100%25 %2B %",
    "ampersand and equals": "a=b&startvm=true",
    "brackets and quotes": "[0].a{\"b\"}'(c)!",
    "unreserved": "azAZ09-_.",
    "the rest of ASCII": "#$,:;<>?@\\^`|",
    "control characters": "a\tb\nc",
    "upper case": "WEB01 ÀB",
    "base64": "a+b/c==",
}
plain_encode = cs.client.cs_encode


def java_encode(text):
    return plain_encode(text).replace("~", "%7E")


def vector(what, parameters):
    repaired = any("~" in value for value in parameters.values())
    cs.client.cs_encode = java_encode if repaired else plain_encode
    data = dict(parameters)
    cs.client.CloudStack(endpoint="http://nobody.invalid", key="kEy", secret=SECRET)._sign(data)
    signature = data.pop("signature")
    body = "&".join(f"{java_encode(k)}={java_encode(v)}" for k, v in sorted(data.items())) + f"&signature={java_encode(signature)}"
    print(f"/* {what}{'; the tilde put right' if repaired else ''} */")
    print("{{" + ", ".join(quoted(text) for pair in parameters.items() for text in pair) + "},")
    print(f" {quoted(body)}}},")


def quoted(text):
    """As a C string; three octal digits, as hexadecimal ones would swallow what follows."""
    return '"' + "".join(chr(b) if 32 <= b < 127 and b not in b'"\\?' else f"\\{b:03o}" for b in text.encode()) + '"'


print("/* SPDX-License-Identifier: Apache-2.0 */\n/* Written by make_signing_vectors.py with cs 5.2.0; {{name, value, ...}, body}. */")
common = {"apiKey": "kEy", "response": "json"}
for what, value in AWKWARD.items():
    vector(what, {"command": "createVolume", "name": value, **common})
vector("everything at once, expiring", {"command": "updateVirtualMachine", "name": "".join(AWKWARD.values()), "expires":
       "2026-11-23T15:00:00+0000", "signatureVersion": "3", **common})
vector("an empty value in the middle and at the end", {"command": "listVolumes", "keyword": "", "zoneid": "", **common})
vector("a map, with capitals before small letters", {"command": "deployVirtualMachine", "details[0].rootDiskController": "scsi",
       "details[0].UEFI": "LEGACY", "details[0].a b": "c", **common})
