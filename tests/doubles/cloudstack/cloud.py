# SPDX-License-Identifier: Apache-2.0
"""Everything that makes the cloud, wired up: store, jobs, hypervisor, faults, log; and the appliances."""
import json
import os
import re
import threading
import time

from faults import Faults
from hypervisor import Hypervisor
from jobs import JobEngine
from model import Store, new_id, stamp

_SECRET = re.compile(r"^(apikey|signature|sessionkey|password|userdata)$", re.IGNORECASE)


class RequestLog:
    """DIR/requests.log: one line {"n", "command", "params", ...} for each request as it arrives, and one
    {"answer": n, "status", "jobid", "error"} when its answer is known.  `n` only grows, over restarts too."""

    def __init__(self, directory):
        self.path = os.path.join(directory, "requests.log")
        self.lock = threading.Lock()
        self.number = 0
        if os.path.exists(self.path):
            with open(self.path, encoding="utf-8") as file:
                for line in file:
                    if line.startswith('{"n": '):
                        self.number = int(line[6:line.index(",")])
        self.file = open(self.path, "a", encoding="utf-8")

    def _write(self, row):
        self.file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self.file.flush()

    def request(self, method, command, params, fault):
        with self.lock:
            self.number += 1
            shown = {k: "<redacted>" if _SECRET.match(k) else v for k, v in params.items()}
            self._write({"n": self.number, "t": round(time.time(), 3), "method": method, "command": command,
                         "params": shown, "fault": fault})
            return self.number

    def answer(self, number, status, body):
        content = next(iter(body.values())) if body else {}
        with self.lock:
            self._write({"answer": number, "t": round(time.time(), 3), "status": status,
                         "jobid": content.get("jobid"), "error": content.get("errortext")})


class Throttle:
    """api.throttling: at most MAX requests in an interval for an account; root admins are exempt [441]."""

    def __init__(self, spec):
        self.lock = threading.Lock()
        self.windows = {}
        self.limit = self.seconds = None
        if spec:
            limit, _, seconds = spec.partition("/")
            self.limit, self.seconds = int(limit), float(seconds or 1)

    def check(self, account, forced):
        """Milliseconds to wait, or None when the request may pass."""
        if forced:
            return int((self.seconds or 1) * 1000)
        if not self.limit or account["admin"]:
            return None
        now = time.monotonic()
        with self.lock:
            start, count = self.windows.get(account["name"], (now, 0))
            if now - start >= self.seconds:
                start, count = now, 0
            self.windows[account["name"]] = (start, count + 1)
            return int((start + self.seconds - now) * 1000) if count >= self.limit else None


class Cloud:
    def __init__(self, options):
        self.options = options
        self.store = Store(options.dir, options)
        self.log = RequestLog(options.dir)
        self.faults = Faults(self.store)
        self.jobs = JobEngine(self.store, self.faults, options)
        self.hypervisor = Hypervisor(self.store, self.faults, options)
        self.throttle = Throttle(options.throttle)
        self.store.recover()
        self._make_appliances()
        self.hypervisor.recover()
        self.store.save()

    def _make_appliances(self):
        """An appliance is an ordinary VM of the admin that runs from the first start, with a root of its own."""
        store = self.store
        path = os.path.join(self.options.dir, "appliances.json")
        known = {vm["name"] for vm in store.data["vms"].values() if not vm["removed"]}
        for spec in filter(None, self.options.appliance.split(",")):
            name, _, cluster_name = spec.strip().partition("@")
            if name in known:
                continue
            clusters = store.data["clusters"].values()
            cluster = next((c for c in clusters if c["name"] == (cluster_name or "C0")), None)
            if cluster is None:
                raise SystemExit(f"--appliance {spec}: there is no cluster {cluster_name}")
            self._make_appliance(name, cluster["id"])
        appliances = {vm["name"]: {"id": vm["id"], "dev_root": self.hypervisor.dev(vm["id"]).rstrip("/"),
                                   "sysfs_root": os.path.join(self.hypervisor.root(vm["id"]), "sys")}
                      for vm in store.data["vms"].values() if vm.get("appliance") and not vm["removed"]}
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(appliances, file, indent=1)
        os.replace(path + ".new", path)

    def _make_appliance(self, name, cluster_id):
        store, data = self.store, self.store.data
        offering = next(o for o in data["service_offerings"].values() if o["name"] == "Medium Instance")
        template = next(iter(data["templates"].values()))
        network = next(iter(data["networks"].values()))
        host = next(h for h in data["hosts"].values() if h["cluster_id"] == cluster_id)
        ident, number = new_id(), store.number("vm")
        data["numbers"]["mac"] += 1
        vm = {"id": ident, "number": number, "name": name, "displayname": name, "account": "admin",
              "state": "Running", "template": template["id"], "offering": offering["id"], "cpu": offering["cpu"],
              "mhz": offering["mhz"], "mb": offering["mb"], "os_type": template["os_type"], "host_id": host["id"],
              "nics": [{"id": new_id(), "network_id": network["id"], "ip": f"{network['prefix']}{10 + number}",
                        "mac": f"02:02:00:d0:00:{data['numbers']['mac']:02x}"}],
              "details": {"rootDiskController": "scsi"}, "instance": f"i-2-{number}-VM", "cluster_id": cluster_id,
              "created": stamp(), "lastupdated": stamp(), "removed": None, "devices": {}, "boots": 0,
              "appliance": True}
        data["vms"][ident] = vm
        root = store.add_volume("admin", f"ROOT-{number}", template["size"], kind="ROOT",
                                service_offering=offering["id"], template=template["id"], vm_id=ident, deviceid=0)
        store.place_volume(root, store.pool_in(cluster_id))
        self.hypervisor.power_on(vm)
