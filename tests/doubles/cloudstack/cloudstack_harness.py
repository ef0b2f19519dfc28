# SPDX-License-Identifier: Apache-2.0
"""Start, kill and talk to the double from a test: `with Double(tmp_path) as cloud: cloud.call("listZones")`.

The client signs by itself, from the documentation, not with the double's code.
"""
import base64
import collections
import ctypes
import hashlib
import hmac
import http.client
import json
import os
import re
import signal
import subprocess
import threading
import time
import urllib.parse
import uuid

SERVER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "server.py")
PYTHON = "/usr/bin/python3"
GIB = 1 << 30
Answer = collections.namedtuple("Answer", "status headers body text")


class Refused(Exception):
    """The API answered with an error; `code` and `text` are its errorcode and errortext."""

    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code, self.text = code, text


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def quote(text):
    """application/x-www-form-urlencoded with %20 for the space, as the server encodes values for the check."""
    return urllib.parse.quote_plus(text, safe="*").replace("+", "%20").replace("~", "%7E")


def signature(params, secret):
    pairs = [f"{name}={quote(params[name])}" for name in sorted(params)]
    mac = hmac.HMAC(secret.encode("ascii"), "&".join(pairs).lower().encode("ascii"), hashlib.sha1)
    return base64.standard_b64encode(mac.digest()).decode("ascii")


class Client:
    """One account's view.  Parameters with dots and brackets go in a dict: call("x", {"details[0].a": "b"})."""

    def __init__(self, port, key_file):
        self.port = port
        with open(key_file, encoding="ascii") as file:
            self.key, self.secret = file.read().split()

    def signed(self, command, params=(), **more):
        fields = {"command": command, "response": "json", "apikey": self.key}
        fields.update({k: str(v) for k, v in {**dict(params), **more}.items()})
        fields["signature"] = signature(fields, self.secret)
        return fields

    def send(self, fields, method="POST"):
        """Send ready-made parameters; whatever comes back, as an Answer."""
        form = urllib.parse.urlencode(fields)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            if method == "POST":
                connection.request("POST", "/client/api", form,
                                   {"Content-Type": "application/x-www-form-urlencoded"})
            else:
                connection.request("GET", "/client/api?" + form)
            response = connection.getresponse()
            text = response.read().decode("utf-8")
            body = json.loads(text) if response.getheader("Content-Type", "").startswith("application/json") else None
            return Answer(response.status, response.headers, body, text)
        finally:
            connection.close()

    def call(self, command, params=(), **more):
        """The content of the answer; Refused for an error."""
        answer = self.send(self.signed(command, params, **more))
        (key, content), = answer.body.items()
        if "errorcode" in content:
            assert content["errorcode"] == answer.status
            raise Refused(content["errorcode"], content["errortext"])
        assert key == command.lower() + "response"
        return content

    def wait(self, job, timeout=30):
        """Poll a job (its id or the answer that named it) until it is done: the whole answer."""
        ident = job if isinstance(job, str) else job["jobid"]
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            answer = self.call("queryAsyncJobResult", jobid=ident)
            if answer["jobstatus"] != 0:
                return answer
            time.sleep(0.02)
        raise TimeoutError(f"job {ident} still runs after {timeout} s")

    def do(self, command, params=(), **more):
        """Submit and wait: the object in jobresult; Refused when the job failed."""
        answer = self.wait(self.call(command, params, **more))
        result = answer.get("jobresult")
        if answer["jobstatus"] == 2:
            raise Refused(answer["jobresultcode"], (result or {}).get("errortext"))
        (value,) = result.values()
        return value


class Double(Client):
    """The server as a child process; as a client it is the root admin."""

    def __init__(self, directory, *options, appliance="appliance", speed=10):
        self.dir = str(directory)
        self.options = ["--appliance", appliance, "--speed", str(speed), *options]
        self.process = None
        os.makedirs(self.dir, exist_ok=True)
        port = self.start("127.0.0.1:0")
        super().__init__(port, os.path.join(self.dir, "admin.key"))
        self.user = Client(port, os.path.join(self.dir, "user.key"))
        with open(os.path.join(self.dir, "appliances.json"), encoding="utf-8") as file:
            self.appliances = json.load(file)

    def start(self, listen=None):
        self.process = subprocess.Popen(
            [PYTHON, SERVER, "--dir", self.dir, "--listen", listen or f"127.0.0.1:{self.port}", *self.options],
            stdout=subprocess.PIPE, text=True, preexec_fn=_die_with_parent)
        line = self.process.stdout.readline()
        if not line.strip():
            raise RuntimeError(f"the double did not start: status {self.process.wait()}")
        return int(line)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def restart(self):
        """kill -9, then start again on the same port."""
        self.kill()
        self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait()
        self.process.stdout.close()

    # -- control endpoint and files ----------------------------------------------------------------

    def control(self, path, value=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET" if value is None else "POST", "/ctl/" + path,
                               None if value is None else json.dumps(value))
            response = connection.getresponse()
            answer = json.loads(response.read())
            if response.status != 200:
                raise ValueError(answer["error"])
            return answer
        finally:
            connection.close()

    def fault(self, command, action, count=1, **more):
        self.control("fault", {"command": command, "action": action, "count": count, **more})

    def state(self):
        return self.control("state")

    def requests(self, command=None):
        """Requests from the log, oldest first; without a line that is just being written."""
        with open(os.path.join(self.dir, "requests.log"), encoding="utf-8") as file:
            rows = [row for row in (json.loads(line) for line in file if line.endswith("\n")) if "n" in row]
        return [row for row in rows if command in (None, row["command"])]

    def devices(self, vm_id):
        """The guest's block devices: serial -> (name, sectors)."""
        block = os.path.join(self.dir, "vms", vm_id, "sys", "block")
        found = {}
        for name in os.listdir(block):
            try:
                with open(os.path.join(block, name, "serial"), encoding="ascii") as serial, \
                        open(os.path.join(block, name, "size"), encoding="ascii") as size:
                    found[serial.read().strip()] = (name, int(size.read()))
            except FileNotFoundError:
                pass  # it comes or goes at this moment
        return found


class Site:
    """A Double and the ids that most tests need, found over the API."""

    def __init__(self, cloud):
        self.cloud = cloud
        self.zone = cloud.call("listZones", available="true")["zone"][0]["id"]
        self.disk = {o["name"]: o["id"] for o in cloud.call("listDiskOfferings")["diskoffering"]}
        self.service = {o["name"]: o["id"] for o in cloud.call("listServiceOfferings")["serviceoffering"]}
        self.nets = {o["name"]: o["id"] for o in cloud.call("listNetworks", listall="true")["network"]}
        self.pools = {o["name"]: o for o in cloud.call("listStoragePools")["storagepool"]}
        (template,) = cloud.call("listTemplates", templatefilter="executable", name="blank-linux")["template"]
        self.template = template["id"]
        self.appliance = cloud.appliances["appliance"]["id"]
        self.names = 0

    def volume(self, gb=1, client=None, **more):
        client = client or self.cloud
        return client.do("createVolume", {"zoneid": self.zone, "diskofferingid": self.disk["Custom"], "size": gb,
                                          "name": "data", **more})["id"]

    def attached(self, **more):
        ident = self.volume(**more)
        self.cloud.do("attachVolume", id=ident, virtualmachineid=self.appliance)
        return ident

    def look(self, ident, client=None):
        return (client or self.cloud).call("listVolumes", id=ident)["volume"][0]

    def deploy_params(self, **more):
        self.names += 1
        params = {"zoneid": self.zone, "serviceofferingid": self.service["Small Instance"], "templateid": self.template,
                  "networkids": self.nets["migration-net"], "name": f"t{self.names}-{uuid.uuid4().hex[:6]}",
                  "startvm": "false", **more}
        return {k: v for k, v in params.items() if v is not None}

    def vm(self, **more):
        return self.cloud.do("deployVirtualMachine", self.deploy_params(**more))["id"]

    def root(self, vm):
        return next(v for v in self.cloud.call("listVolumes", virtualmachineid=vm)["volume"] if v["type"] == "ROOT")

    def device(self, ident, vm=None, timeout=5):
        """(name, sectors) of the volume's device, once the guest shows it."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            found = self.cloud.devices(vm or self.appliance).get(ident.replace("-", "")[:20])
            if found:
                return found
            time.sleep(0.01)
        raise TimeoutError("the device did not appear")


def refused(code, pattern, function, *args, **kwargs):
    """The call must be refused with this code and a text that matches."""
    try:
        function(*args, **kwargs)
    except Refused as error:
        assert error.code == code and re.search(pattern, error.text or ""), str(error)
        return
    raise AssertionError(f"was not refused ({code} {pattern})")


def in_parallel(*functions):
    """Run at once; the results, or the exceptions, in the same order."""
    results = [None] * len(functions)

    def run(index):
        try:
            results[index] = functions[index]()
        except Exception as error:
            results[index] = error
    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
