# SPDX-License-Identifier: Apache-2.0
"""The hosts and the guests: volumes are sparse files, a running VM shows its volumes as devices.

  DIR/volumes/<volume id>.raw            the bytes
  DIR/vms/<vm id>/dev/vdb                symlink to them, as long as the VM runs and has the volume
  DIR/vms/<vm id>/sys/block/vdb/         serial (first 20 hex digits of the id), size (512 byte sectors),
                                         ro, holders/
  DIR/vms/<vm id>/boot.json              what the VM booted from at its last start

A letter is the lowest one free in the guest at the moment of the hot-plug, but the one freed last is passed
over once, as by a guest that lets go late: letters do not follow deviceid.  `devices` in the VM's row is the
truth; the files follow it.
"""
import json
import os
import shutil
import string
import threading

from faults import HOTPLUG

HOTPLUG_S = 0.2


def open_by(path):
    """Ids of other processes that have the file open: a detached volume should have none."""
    found, path = set(), os.path.realpath(path)
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            for fd in os.scandir(f"/proc/{entry}/fd"):
                if os.readlink(fd.path) == path:
                    found.add(int(entry))
        except OSError:
            continue
    return sorted(found)


class Hypervisor:
    def __init__(self, store, faults, options):
        self.store = store
        self.faults = faults
        self.speed = options.speed
        self.held = {}  # vm id -> the device name freed last, which the guest has not let go of yet

    # -- paths -------------------------------------------------------------------------------------

    def root(self, vm_id):
        return os.path.join(self.store.dir, "vms", vm_id)

    def dev(self, vm_id, name=""):
        return os.path.join(self.root(vm_id), "dev", name)

    def sys(self, vm_id, name=""):
        return os.path.join(self.root(vm_id), "sys", "block", name)

    # -- devices -----------------------------------------------------------------------------------

    def _free_name(self, vm):
        held = self.held.pop(vm["id"], None)
        letters = string.ascii_lowercase
        names = ["vd" + tail for tail in (*letters, *(a + b for a in letters for b in letters))]
        return next(name for name in names if name not in vm["devices"] and name != held)

    def _write(self, path, text):
        with open(path + ".new", "w", encoding="ascii") as file:
            file.write(text)
        os.replace(path + ".new", path)

    def _show(self, vm, name, volume, quirk=None):
        """Make the sysfs entries first and the device node last, as udev would."""
        entry = self.sys(vm["id"], name)
        os.makedirs(os.path.join(entry, "holders"), exist_ok=True)
        os.makedirs(self.dev(vm["id"]), exist_ok=True)
        serial = volume["id"].replace("-", "")[:20]
        sectors = volume["size"] // 512
        self._write(os.path.join(entry, "serial"), "\n" if quirk == "hotplug-no-serial" else serial + "\n")
        self._write(os.path.join(entry, "size"),
                    f"{sectors - 8 if quirk == 'hotplug-wrong-size' else sectors}\n")
        self._write(os.path.join(entry, "ro"), "0\n")
        node = self.dev(vm["id"], name)
        if os.path.lexists(node):
            os.unlink(node)
        os.symlink(os.path.abspath(self.store.volume_file(volume["id"])), node)

    def _hide(self, vm, name):
        node = self.dev(vm["id"], name)
        if os.path.lexists(node):
            os.unlink(node)
        shutil.rmtree(self.sys(vm["id"], name), ignore_errors=True)

    def plug(self, vm, volume, params):
        """A volume was attached to a running VM: its device appears a little later, in the guest's own time."""
        fault = self.faults.take("attachVolume", params, HOTPLUG) or {}
        quirk = fault.get("action")
        if quirk == "hotplug-never":
            self.store.note("hotplug-never", vm=vm["id"], volume=volume["id"])
            return
        delay = float(fault.get("seconds", 5)) if quirk == "hotplug-late" else HOTPLUG_S / self.speed
        timer = threading.Timer(delay, self._plug_now, (vm["id"], volume["id"], quirk))
        timer.daemon = True
        timer.start()

    def _plug_now(self, vm_id, volume_id, quirk=None):
        with self.store.lock:
            vm, volume = self.store.data["vms"][vm_id], self.store.data["volumes"][volume_id]
            if vm["state"] != "Running" or volume["vm_id"] != vm_id or volume_id in vm["devices"].values():
                return
            name = self._free_name(vm)
            vm["devices"][name] = volume_id
            self._show(vm, name, volume, quirk)
            self.store.save()

    def unplug(self, vm, volume):
        """Take the device away; whoever still has it open is noted, since a real guest would see I/O errors."""
        users = open_by(self.store.volume_file(volume["id"]))
        if users:
            self.store.note("open-at-detach", vm=vm["id"], volume=volume["id"], pids=users)
        for name in [n for n, v in vm["devices"].items() if v == volume["id"]]:
            del vm["devices"][name]
            self.held[vm["id"]] = name
            self._hide(vm, name)

    def resized(self, volume):
        """The volume's file has its new size; a running guest sees it."""
        vm = self.store.data["vms"].get(volume["vm_id"] or "")
        for name, ident in (vm or {"devices": {}})["devices"].items():
            if ident == volume["id"]:
                self._write(os.path.join(self.sys(vm["id"], name), "size"), f"{volume['size'] // 512}\n")

    # -- power -------------------------------------------------------------------------------------

    def power_on(self, vm):
        """Start the domain: every volume must be there in full; returns an error text or None."""
        volumes = self.store.volumes_of(vm["id"])
        for volume in volumes:
            path = self.store.volume_file(volume["id"])
            if not os.path.exists(path) or os.path.getsize(path) < volume["size"]:
                return f"volume {volume['id']} is not on the storage"
            users = open_by(path)
            if users:
                self.store.note("open-at-start", vm=vm["id"], volume=volume["id"], pids=users)
        self._clear(vm)
        for volume in volumes:
            name = self._free_name(vm)
            vm["devices"][name] = volume["id"]
            self._show(vm, name, volume)
        vm["boots"] += 1
        boot = {"vm": vm["id"], "name": vm["name"], "boots": vm["boots"], "details": vm["details"],
                "nics": vm["nics"], "host": vm["host_id"],
                "volumes": [{"deviceid": v["deviceid"], "id": v["id"], "type": v["type"], "size": v["size"],
                             "file": self.store.volume_file(v["id"])} for v in volumes]}
        self._write(os.path.join(self.root(vm["id"]), "boot.json"), json.dumps(boot, indent=1))
        return None

    def power_off(self, vm):
        for volume in self.store.volumes_of(vm["id"]):
            users = open_by(self.store.volume_file(volume["id"]))
            if users:
                self.store.note("open-at-stop", vm=vm["id"], volume=volume["id"], pids=users)
        self._clear(vm)

    def _clear(self, vm):
        vm["devices"].clear()
        self.held.pop(vm["id"], None)
        for path in (self.dev(vm["id"]), os.path.join(self.root(vm["id"]), "sys")):
            shutil.rmtree(path, ignore_errors=True)
        os.makedirs(self.dev(vm["id"]))
        os.makedirs(self.sys(vm["id"]))

    def forget(self, vm):
        vm["devices"].clear()
        shutil.rmtree(self.root(vm["id"]), ignore_errors=True)

    def recover(self):
        """Guests outlive the management server: make files and truth agree again after a restart."""
        with self.store.lock:
            for vm in self.store.data["vms"].values():
                if vm["removed"]:
                    continue
                if vm["state"] != "Running":
                    self._clear(vm)
                    continue
                os.makedirs(self.sys(vm["id"]), exist_ok=True)
                attached = {v["id"]: v for v in self.store.volumes_of(vm["id"])}
                for name in [n for n, v in vm["devices"].items() if v not in attached]:
                    del vm["devices"][name]
                for name in os.listdir(self.sys(vm["id"])):
                    if name not in vm["devices"]:
                        self._hide(vm, name)
                for name, ident in vm["devices"].items():
                    if not os.path.exists(self.dev(vm["id"], name)):
                        self._show(vm, name, attached[ident])
                for ident in attached.keys() - set(vm["devices"].values()):
                    self._plug_now(vm["id"], ident)
