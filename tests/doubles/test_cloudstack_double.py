# SPDX-License-Identifier: Apache-2.0
"""The double of CloudStack against the transcripts of the real one; [numbers] name the transcript."""
import base64
import datetime
import hashlib
import hmac
import json
import os
import subprocess
import sys
import uuid

import pytest

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "cloudstack")
sys.path.insert(0, HERE)
from cloudstack_harness import GIB, PYTHON, SERVER, Double, Site, quote, refused, signature  # noqa: E402

BAD_AUTH = "unable to verify user credentials and/or request signature"

with open(os.path.join(HERE, "recorded.json"), encoding="utf-8") as _file:
    RECORDED = {name: set(entry["keys"].split()) for name, entry in json.load(_file).items()}


@pytest.fixture(scope="module", name="shared")
def _shared(tmp_path_factory):
    with Double(tmp_path_factory.mktemp("cloud"), "--seed", "7", appliance="appliance,other@C1", speed=20) as cloud:
        yield Site(cloud)


@pytest.fixture(name="site")
def _site(shared):
    """The shared cloud, without faults that an earlier test left."""
    shared.cloud.control("reset", {})
    return shared


def in_minutes(minutes, zone="+0000"):
    when = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=minutes)
    return when.strftime("%Y-%m-%dT%H:%M:%S") + zone


# -- signatures ------------------------------------------------------------------------------------------------


def test_signature_vector():
    """A fixed vector, computed with openssl: the reference client itself must not drift."""
    params = {"command": "updateVirtualMachine", "apikey": "KEY", "response": "json", "details[0].UEFI": "LEGACY",
              "details[0].rootDiskController": "virtio", "name": "a b+c*d~e/\u00fc"}
    text = ("apikey=key&command=updatevirtualmachine&details[0].uefi=legacy&details[0].rootdiskcontroller=virtio"
            "&name=a%20b%2bc*d%7ee%2f%c3%bc&response=json")
    joined = "&".join(f"{k}={quote(params[k])}" for k in sorted(params)).lower()
    assert joined == text
    assert signature(params, "SECRET") == "0/WFLnRLtm//NFgdGM3JC75yb90="


@pytest.mark.parametrize("value", ["a~b", "a*b", "a b", "[a](b)'!,/:@", "", "gr\u00fc\u00dfe", "a+b%20&=c"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_values_are_encoded_as_java_does(site, value, method):  # [534-541]
    answer = site.cloud.send(site.cloud.signed("listVolumes", keyword=value), method)
    assert answer.status == 200 and "errorcode" not in answer.text


def _with_signature(cloud, fields, joined):
    fields["signature"] = base64.b64encode(hmac.new(cloud.secret.encode(), joined.lower().encode(),
                                                    hashlib.sha1).digest()).decode()
    return cloud.send(fields)


@pytest.mark.parametrize("value,encoded,status", [
    ("a b", "a+b", 401), ("a b", "a%20b", 200), ("a~b", "a~b", 401), ("a~b", "a%7eb", 200), ("a*b", "a%2ab", 401)])
def test_other_encodings_are_refused(site, value, encoded, status):  # [534-539]
    fields = {"command": "listVolumes", "response": "json", "apikey": site.cloud.key, "keyword": value}
    joined = "&".join(f"{k}={encoded if k == 'keyword' else fields[k]}" for k in sorted(fields))
    assert _with_signature(site.cloud, fields, joined).status == status


def test_names_are_sorted_raw(site):  # [528-533]
    fields = {"command": "listVolumes", "response": "json", "apikey": site.cloud.key, "Name": "x"}
    by_lower = "&".join(f"{k}={quote(fields[k])}" for k in sorted(fields, key=str.lower))
    raw = "&".join(f"{k}={quote(fields[k])}" for k in sorted(fields))
    assert _with_signature(site.cloud, dict(fields), by_lower).status == 401
    assert _with_signature(site.cloud, dict(fields), raw).status == 200


def test_what_is_not_signed_right_is_401(site):  # [188-195, 214]
    cloud = site.cloud
    good = cloud.signed("listZones")
    bad = [{**good, "signature": "AAAA"}, {**good, "apikey": "nobody"}, {**good, "response": "xml"},
           {k: v for k, v in good.items() if k != "signature"}, {"command": "listZones", "response": "json"},
           cloud.signed("fooBar"), cloud.signed("listzones")]
    for fields in bad:
        answer = cloud.send(fields)
        assert answer.status == 401 and "X-Description" not in answer.headers and BAD_AUTH in answer.text
    assert cloud.send(bad[0]).body == {"listzonesresponse": {"uuidList": [], "errorcode": 401, "errortext": BAD_AUTH}}
    assert list(cloud.send(bad[5]).body) == ["errorresponse"]
    assert list(cloud.send({"response": "json"}).body) == ["null"]


@pytest.mark.parametrize("minutes,zone,version,status", [
    (10, "+0000", "3", 200), (10, "Z", "3", 200), (20, "+0000", "3", 200), (-10, "+0000", "3", 401), (None, None, "3", 401),
    (-10, "+0000", None, 200)])
def test_expiry(site, minutes, zone, version, status):  # [207-212]
    expires = "soon" if minutes is None else in_minutes(minutes, zone)  # from now, not from when the tests were collected
    more = {"expires": expires, **({"signatureVersion": version} if version else {})}
    assert site.cloud.send(site.cloud.signed("listZones", more)).status == status


def test_enforced_post(tmp_path):  # [435-440]
    with Double(tmp_path, "--enforce-post") as cloud:
        def send(command, minutes, method, **more):
            return cloud.send(cloud.signed(command, signatureVersion=3, expires=in_minutes(minutes), **more), method)
        assert cloud.send(cloud.signed("listZones"), "GET").status == 401
        assert send("listZones", 10, "GET").status == 200
        assert send("listZones", 20, "GET").status == 401
        answer = send("createVolume", 10, "GET", name="x")
        assert answer.status == 400 and "needs to be sent using POST" in answer.text
        assert send("createVolume", 10, "POST", name="x").status == 431


def test_keys_are_private(site):
    for name in ("admin.key", "user.key", "state.json"):
        assert os.stat(os.path.join(site.cloud.dir, name)).st_mode & 0o777 == 0o600
    with open(os.path.join(site.cloud.dir, "requests.log"), encoding="utf-8") as log:
        text = log.read() + json.dumps(site.cloud.state())
    assert site.cloud.key not in text and site.cloud.secret not in text and site.cloud.user.secret not in text


# -- HTTP and parameters ---------------------------------------------------------------------------------------


def test_http_oddities(site):  # [542-546]
    cloud = site.cloud
    assert cloud.send(cloud.signed("listVolumes", keyword="x" * 9000), "GET").status == 414
    answer = cloud.send(cloud.signed("listVolumes", keyword="x" * 9000))
    assert answer.status == 431 and "max allowed length 255 for param: keyword" in answer.text
    assert answer.headers["X-Description"].startswith("Unable to execute")
    fields = {"command": "listZones", "apikey": cloud.key}
    fields["signature"] = signature(fields, cloud.secret)
    assert cloud.send(fields).text.startswith("<?xml")


@pytest.mark.parametrize("command,params,code,text", [
    ("attachVolume", {}, 431, "^Unable to execute API command attachvolume due to missing parameter id$"),  # [197]
    ("attachVolume", {"id": "abc", "virtualmachineid": "abc"}, 431, "Invalid parameter id value=abc due to"),  # [200]
    ("listVolumes", {"id": str(uuid.uuid4())}, 431, "Invalid parameter id value="),  # [202]
    ("listTemplates", {}, 431, "missing parameter templatefilter"),  # [012]
    ("listVolumes", {"page": 1}, 431, '^"pagesize" parameter is required when "page" is specified$'),  # [401]
    ("listVolumes", {"pagesize": 1}, 431, '^"page" parameter is required'),  # [402]
    ("listVolumes", {"page": 1, "pagesize": 501}, 431, "max allowed page size value: 500"),  # [400]
    ("queryAsyncJobResult", {"jobid": str(uuid.uuid4())}, 431, "Invalid parameter jobid"),  # [204]
    ("queryAsyncJobResult", {}, 431, "Expected parameter job id or parameters resource type and resource id"),  # [491]
    ("createVolume", {"size": "abc"}, 431, "createvolume due to invalid value abc for parameter size"),  # [205]
])
def test_parameters(site, command, params, code, text):
    refused(code, text, site.cloud.call, command, params)


@pytest.mark.parametrize("offering,size,text", [
    ("Custom", None, "requires a custom size specified"), ("Small 5GB", 7, "does not allow custom size"),  # [060, 061]
    ("Custom", 0, "must be larger than 0"), ("Custom", -1, "must be larger than 0"),  # [394, 395]
    ("Custom", 100000, r"100000 GB is out of allowed range. Min: 1. Max: 1024"), (None, 1, "At least one of disk")])
def test_sizes(site, offering, size, text):
    params = {"zoneid": site.zone, "name": "x", "size": size, "diskofferingid": site.disk.get(offering)}
    refused(431, text, site.cloud.call, "createVolume", {k: v for k, v in params.items() if v is not None})


def test_lists(site):  # [332, 399, 404]
    for _ in range(3):
        site.volume(name="list-me")
    call = site.cloud.call
    assert call("listVolumes", name="list-m") == {}
    assert call("listVolumes", keyword="ist-m")["count"] == 3
    part = call("listVolumes", name="list-me", page=2, pagesize=2)
    assert (part["count"], len(part["volume"])) == (3, 1)
    assert call("listVolumes", name="list-me", page=3, pagesize=2) == {"count": 3}
    assert call("listVolumes", id="1") == {}  # [201]
    assert call("listAsyncJobs", listall="true") == {}  # [492]


def test_an_ordinary_user(site):  # [378-393]
    user = site.cloud.user
    refused(432, r"The API \[listHosts\] does not exist or is not available", user.call, "listHosts")
    mine, theirs = site.volume(client=user), site.volume()
    assert set(site.look(mine, user)) == RECORDED["volume of a user"]
    assert user.call("listVolumes", id=theirs) == {}
    for command, params in (("deleteVolume", {"id": theirs}),
                            ("attachVolume", {"id": theirs, "virtualmachineid": site.appliance})):
        refused(531, "^Caller does not have permission", user.call, command, params)
    attached = site.attached()
    refused(530, "^Caller does not have permission", user.do, "detachVolume", id=attached)
    job = site.cloud.call("resizeVolume", id=theirs, size=2)
    refused(531, "is not authorized to see job", user.call, "queryAsyncJobResult", jobid=job["jobid"])
    site.cloud.wait(job)
    refused(531, "not allowed to create/update custom id", site.volume, client=user, customid=str(uuid.uuid4()))
    site.cloud.do("detachVolume", id=attached)


# -- the wire format against the transcripts -------------------------------------------------------------------


def _same(name, got, only_theirs=(), only_ours=()):
    got, want = set(got), RECORDED[name]
    assert (want - got, got - want) == (set(only_theirs), set(only_ours)), name


def test_fields_of_volumes_and_jobs(site):
    cloud = site.cloud
    submit = cloud.call("createVolume", zoneid=site.zone, diskofferingid=site.disk["Custom"], size=2, name="w")
    _same("submit create", submit)
    job = cloud.wait(submit)
    _same("job done", job)
    assert job["jobresult"]["volume"]["jobstatus"] == 0 and job["jobstatus"] == 1
    ident = submit["id"]
    _same("volume allocated", site.look(ident))
    assert site.look(ident)["state"] == "Allocated" and site.look(ident)["size"] == 2 * GIB
    submit = cloud.call("attachVolume", id=ident, virtualmachineid=site.appliance)
    _same("submit attach", submit)
    _same("job pending", cloud.call("queryAsyncJobResult", submit))
    _same("volume of a job", cloud.wait(submit)["jobresult"]["volume"])
    _same("volume attached", site.look(ident))
    _same("job failed", cloud.wait(cloud.call("attachVolume", id=ident, virtualmachineid=site.appliance)))
    cloud.do("detachVolume", id=ident)
    _same("volume detached", site.look(ident))
    again = cloud.call("queryAsyncJobResult", resourcetype="Volume", resourceid=ident)  # [490]
    assert again["cmd"].endswith("admin.volume.DetachVolumeCmdByAdmin")
    _same("snapshot", {**cloud.do("createSnapshot", volumeid=ident)}, only_ours=("jobid", "jobstatus"))


def test_fields_of_vms(site):
    cloud = site.cloud
    submit = cloud.call("deployVirtualMachine", site.deploy_params())
    _same("submit deploy", submit)
    cloud.wait(submit)
    vm = cloud.call("listVirtualMachines", id=submit["id"])["virtualmachine"][0]
    _same("vm stopped", vm)
    _same("nic", vm["nic"][0])
    _same("root never started", site.root(vm["id"]))
    cloud.do("startVirtualMachine", id=vm["id"])
    _same("root of a running vm", site.root(vm["id"]))
    cloud.do("stopVirtualMachine", id=vm["id"])
    cloud.do("detachVolume", id=site.root(vm["id"])["id"])
    _same("vm without root", cloud.call("listVirtualMachines", id=vm["id"])["virtualmachine"][0],
          only_ours=("lastupdated",))
    _same("vm expunged", cloud.do("destroyVirtualMachine", id=vm["id"], expunge="true"))
    assert cloud.call("listVirtualMachines", id=vm["id"]) == {}  # [314]
    refused(431, r"^unable to find a virtual machine with id \d+$", cloud.do, "destroyVirtualMachine", id=vm["id"])


def test_fields_of_offers(site):
    call = site.cloud.call
    _same("disk offering", call("listDiskOfferings")["diskoffering"][0])
    _same("os type", call("listOsTypes", keyword="Debian")["ostype"][0])
    _same("service offering", call("listServiceOfferings")["serviceoffering"][0],
          only_theirs=("diskofferingid", "diskofferingname", "diskofferingdisplaytext"))
    _same("zone of a user", site.cloud.user.call("listZones")["zone"][0],
          only_theirs=("asnrange", "routerprivateinterfacemaxmtu", "routerpublicinterfacemaxmtu", "zonetoken"))
    apis = call("listApis", name="createVolume")["api"][0]
    assert apis["isasync"] and {"customid", "storageid"} <= {p["name"] for p in apis["params"]}
    assert not site.cloud.user.call("listApis")["count"] == call("listApis")["count"]


def test_one_double_per_directory(site):
    result = subprocess.run([PYTHON, SERVER, "--dir", site.cloud.dir], capture_output=True, text=True, check=False)
    assert result.returncode == 1 and "in use by another double" in result.stderr
