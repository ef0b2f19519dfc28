# SPDX-License-Identifier: Apache-2.0
"""The management server's database: one dictionary, one lock, one file that is replaced atomically.

Every change happens under `lock` and ends with save(); a kill -9 at any moment leaves the state before
or after the change, never half of it.  What was in flight is settled by recover() at the next start.
"""
import json
import os
import secrets
import threading
import time
import uuid

import seed

GIB = 1 << 30
KEEP_JOBS = 5000


def new_id():
    return str(uuid.uuid4())


def stamp(when=None):
    """CloudStack's time format, UTC, whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%S+0000", time.gmtime(time.time() if when is None else when))


class Store:
    """The state of the cloud.  `data` is plain JSON; take `lock` for reading several things, too."""

    def __init__(self, directory, options):
        self.dir = directory
        self.options = options
        self.lock = threading.RLock()
        self.finished = set()  # ids of jobs whose record is in jobs.log, no longer in state.json
        self.job_log = None
        self.path = os.path.join(directory, "state.json")
        for name in ("volumes", "vms"):
            os.makedirs(os.path.join(directory, name), exist_ok=True)
        if not os.path.exists(self.path):
            self.data = seed.cloud(options)
            self._write_keys()
            self.save()
        else:
            with open(self.path, encoding="utf-8") as file:
                self.data = json.load(file)
        self._load_jobs()

    # -- persistence -------------------------------------------------------------------------------

    def _write_keys(self):
        for account in self.data["accounts"].values():
            if not account["keyfile"]:
                account.update(apikey=None, secret=None)
                continue
            account["apikey"] = secrets.token_urlsafe(64)
            account["secret"] = secrets.token_urlsafe(64)
            path = os.path.join(self.dir, account["keyfile"])
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w",
                      encoding="ascii") as file:
                file.write(f"{account['apikey']}\n{account['secret']}\n")

    def save(self):
        with self.lock:
            text = self._dump()
            temporary = self.path + ".new"
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w",
                      encoding="utf-8") as file:
                file.write(text)
            os.replace(temporary, self.path)

    def _dump(self):
        jobs = {i: job for i, job in self.data["jobs"].items() if i not in self.finished}
        return json.dumps({**self.data, "jobs": jobs}, separators=(",", ":"))

    def finish_job(self, job):
        """A finished job never changes: it goes to a file that only grows, or saving would slow down."""
        self.finished.add(job["id"])
        self.job_log.write(json.dumps(job, separators=(",", ":")) + "\n")
        self.job_log.flush()

    def _load_jobs(self):
        """Finished jobs win over what the state says of them: their line is written first."""
        path = os.path.join(self.dir, "jobs.log")
        lines = []
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                lines = [line for line in file if line.endswith("\n")][-KEEP_JOBS:]
        for job in map(json.loads, lines):
            self.data["jobs"][job["id"]] = job
            self.finished.add(job["id"])
        self._start_job_log(lines)

    def _start_job_log(self, lines):
        path = os.path.join(self.dir, "jobs.log")
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.writelines(lines)
        os.replace(path + ".new", path)
        self.job_log = open(path, "a", encoding="utf-8")

    def forget_jobs(self):
        """Drop the history of finished jobs."""
        for ident in self.finished:
            self.data["jobs"].pop(ident, None)
        self.finished.clear()
        self._start_job_log([])

    def recover(self):
        """What a restart of the real one leaves: jobs lost with 530 and no result, volumes Ready again."""
        with self.lock:
            for job in self.data["jobs"].values():
                if job["status"] == 0:
                    job.update(status=2, code=530, completed=stamp(), lost=True)
                    self.finish_job(job)
            for volume in self.data["volumes"].values():
                if volume["state"] in ("Attaching", "Snapshotting", "Resizing", "RevertSnapshotting"):
                    volume["state"] = "Ready"
                elif volume["state"] == "Creating":
                    volume["state"] = "Allocated"
            for vm in self.data["vms"].values():
                if vm["state"] == "Starting":
                    vm.update(state="Stopped", host_id=None)
                elif vm["state"] in ("Stopping", "Expunging"):
                    vm["state"] = "Running" if vm["state"] == "Stopping" else "Destroyed"
            for snapshot in self.data["snapshots"].values():
                if snapshot["state"] in ("Creating", "BackingUp"):
                    snapshot["state"] = "Error"
            self.save()

    # -- finding -----------------------------------------------------------------------------------

    def number(self, kind):
        """The next internal id of a kind: they appear in a few error texts and names (ROOT-5)."""
        self.data["numbers"][kind] = self.data["numbers"].get(kind, 2) + 1
        return self.data["numbers"][kind]

    def find(self, table, ident):
        """A row by uuid or, as the real one allows, by its internal number; None when there is none."""
        rows = self.data[table]
        if ident in rows:
            return rows[ident]
        if ident.isdigit():
            return next((row for row in rows.values() if row.get("number") == int(ident)), None)
        return None

    def account(self, name):
        return self.data["accounts"][name]

    def volumes_of(self, vm_id):
        rows = [v for v in self.data["volumes"].values() if v["vm_id"] == vm_id and not v["removed"]]
        return sorted(rows, key=lambda v: v["deviceid"])

    def root_of(self, vm_id):
        return next((v for v in self.volumes_of(vm_id) if v["type"] == "ROOT"), None)

    def cluster_of(self, vm):
        """Where a VM is or must start: its host's cluster, else that of its storage, else unknown."""
        if vm["host_id"]:
            return self.data["hosts"][vm["host_id"]]["cluster_id"]
        for volume in self.volumes_of(vm["id"]):
            if volume["pool_id"]:
                return self.data["pools"][volume["pool_id"]]["cluster_id"]
        return vm.get("cluster_id")

    def pool_in(self, cluster_id):
        """A pool of a cluster (of the first one when unknown): the emptiest, so that pools alternate."""
        cluster_id = cluster_id or next(iter(self.data["clusters"]))
        used = {}
        for volume in self.data["volumes"].values():
            if volume["pool_id"] and not volume["removed"]:
                used[volume["pool_id"]] = used.get(volume["pool_id"], 0) + 1
        pools = [p for p in self.data["pools"].values() if p["cluster_id"] == cluster_id]
        return min(pools, key=lambda p: used.get(p["id"], 0))["id"]

    # -- making ------------------------------------------------------------------------------------

    def add_volume(self, account, name, size, *, ident=None, kind="DATADISK", offering=None,
                   service_offering=None, template=None, vm_id=None, deviceid=None):
        ident = ident or new_id()
        row = {"id": ident, "number": self.number("volume"), "name": name, "type": kind, "size": size,
               "state": "Allocated", "account": account, "offering": offering,
               "service_offering": service_offering, "template": template, "vm_id": vm_id,
               "deviceid": deviceid, "attached": None, "pool_id": None, "path": None, "created": stamp(),
               "removed": None, "tags": []}
        self.data["volumes"][ident] = row
        return row

    def volume_file(self, ident):
        return os.path.join(self.dir, "volumes", ident + ".raw")

    def place_volume(self, volume, pool_id):
        """Create the volume on a pool (Allocated -> Ready) or move it to another one: id stays, path not."""
        path = self.volume_file(volume["id"])
        if not os.path.exists(path):
            with open(path, "wb"):
                pass
        if os.path.getsize(path) < volume["size"]:
            os.truncate(path, volume["size"])
        volume.update(pool_id=pool_id, path=new_id(), state="Ready")

    def remove_volume(self, volume):
        volume.update(removed=stamp(), state="Expunged", vm_id=None, deviceid=None)
        try:
            os.unlink(self.volume_file(volume["id"]))
        except FileNotFoundError:
            pass

    def note(self, kind, **facts):
        """Something worth proving in a test, such as a volume that was still open when it was detached."""
        self.data["events"].append({"t": round(time.time(), 3), "kind": kind, **facts})
        del self.data["events"][:-2000]
