# SPDX-License-Identifier: Apache-2.0
"""Snapshots of volumes and of VMs, as far as other commands depend on them.

A volume snapshot is a sparse copy beside the volumes; a VM snapshot holds no data, it only blocks attach.
"""
import os
import subprocess

import errors
import views
from commands import PAGING, command, matching, mine, page
from hypervisor import open_by
from model import new_id, stamp

_CLASS = "org.apache.cloudstack.api.command.user."


def _snapshot_text(row):
    number = row["volume_number"]
    return (f'Snapshot {{"id":{row["number"]},"name":"{row["name"]}","state":"{row["state"]}",'
            f'"uuid":"{row["id"]}","version":"2.2","volumeId":{number}}}')


@command("createSnapshot", "volumeid*:uuid:volumes", "name", is_async=True)
def create_snapshot(cloud, account, args):
    store, volume = cloud.store, args["volumeid"]
    if volume["state"] != "Ready":
        vm = store.data["vms"].get(volume["vm_id"] or "")
        raise errors.invalid(f"Volume: {views.java_volume(volume, vm and vm['number'])} is not in Ready state but "
                             f"{volume['state']}. Cannot take snapshot.")  # [151]
    ident = new_id()
    row = {"id": ident, "number": store.number("snapshot"), "volume_id": volume["id"],
           "volume_number": volume["number"], "name": args["name"] or f"{volume['name']}_{ident[:8]}",
           "account": volume["account"], "state": "Creating", "created": stamp(), "size": volume["size"],
           "offering": volume["offering"], "removed": None}
    store.data["snapshots"][ident] = row
    target = store.volume_file(ident)

    def body(job):
        with job.turn(volume["vm_id"]):
            with store.lock:
                if volume["state"] != "Ready":
                    row["state"] = "Error"
                    raise errors.internal(f"Failed to create snapshot due to an internal error creating snapshot for "
                                          f"volume {volume['id']}")
                volume["state"] = "Snapshotting"
                store.save()
            try:
                subprocess.run(["cp", "--sparse=always", store.volume_file(volume["id"]), target], check=True)
                job.work("createSnapshot", "Failed to create snapshot due to an internal error creating snapshot for "
                         f"volume {volume['id']}")
                row["state"] = "BackedUp"
            except errors.ApiError:
                row["state"] = "Error"
                os.unlink(target)
                raise
            finally:
                with store.lock:
                    volume["state"] = "Ready"
                    store.save()
        return lambda: {"snapshot": views.snapshot(store, row)}
    return cloud.jobs.submit("createSnapshot", _CLASS + "snapshot.CreateSnapshotCmd", account, args.raw,
                             ("Snapshot", ident), body, {"id": ident})


@command("listSnapshots", "id:uuid:snapshots", "volumeid:uuid:volumes", "name", *PAGING)
def list_snapshots(cloud, account, args):
    rows = [s for s in cloud.store.data["snapshots"].values() if s["state"] != "Destroyed"]
    if args["id"]:
        rows = [s for s in rows if s["id"] == args["id"]["id"]]
    if args["volumeid"]:
        rows = [s for s in rows if s["volume_id"] == args["volumeid"]["id"]]
    rows = matching(mine(rows, account, args, bool(args["id"] or args["volumeid"])), args)
    return page([views.snapshot(cloud.store, s) for s in rows], args, "snapshot")


@command("deleteSnapshot", "id*:uuid:snapshots", is_async=True)
def delete_snapshot(cloud, account, args):
    store, row = cloud.store, args["id"]

    def body(job):
        if row["state"] == "Destroyed":
            raise errors.invalid(f"Snapshot [{_snapshot_text(row)}] is already destroyed")  # [166]
        job.work("deleteSnapshot", "Failed to delete snapshot")
        with store.lock:
            row.update(state="Destroyed", removed=stamp())
            if os.path.exists(store.volume_file(row["id"])):
                os.unlink(store.volume_file(row["id"]))
            store.save()
        return lambda: {"success": True}
    return cloud.jobs.submit("deleteSnapshot", _CLASS + "snapshot.DeleteSnapshotCmd", account, args.raw,
                             ("Snapshot", row["id"]), body)


def _check_revert(store, row, volume):
    if volume["removed"] or volume["state"] != "Ready":
        raise errors.invalid("The volume is not in Ready state.")
    vm = store.data["vms"].get(volume["vm_id"] or "")
    if vm and vm["state"] != "Stopped":
        raise errors.invalid("The VM the specified disk attached to is not in the shutdown state.")
    if row["state"] != "BackedUp":
        raise errors.invalid(f"Snapshot [{_snapshot_text(row)}] is not in BackedUp state")


@command("revertSnapshot", "id*:uuid:snapshots", is_async=True)
def revert_snapshot(cloud, account, args):
    """As on KVM; the recorded server with its simulator refuses it for any other hypervisor [154]."""
    store, row = cloud.store, args["id"]
    volume = store.data["volumes"][row["volume_id"]]

    def body(job):
        with store.lock:
            _check_revert(store, row, volume)
        with job.turn(volume["vm_id"]):
            with store.lock:
                _check_revert(store, row, volume)
                volume["state"] = "RevertSnapshotting"
                store.save()
            try:
                job.work("revertSnapshot", f"Failed to revert snapshot {row['id']}")
                users = open_by(store.volume_file(volume["id"]))
                if users:
                    store.note("open-at-revert", volume=volume["id"], pids=users)
                subprocess.run(["cp", "--sparse=always", store.volume_file(row["id"]), store.volume_file(volume["id"])], check=True)
                volume["size"] = row["size"]
            finally:
                with store.lock:
                    volume["state"] = "Ready"
                    store.save()
        return lambda: {"snapshot": views.snapshot(store, row)}
    return cloud.jobs.submit("revertSnapshot", _CLASS + "snapshot.RevertSnapshotCmd", account, args.raw,
                             ("Snapshot", row["id"]), body)


@command("createVMSnapshot", "virtualmachineid*:uuid:vms", "name", "description", "snapshotmemory:boolean",
         is_async=True)
def create_vm_snapshot(cloud, account, args):
    store, vm = cloud.store, args["virtualmachineid"]
    ident = new_id()
    row = {"id": ident, "vm_id": vm["id"], "name": f"{vm['instance']}_VS_{stamp()[:19]}", "account": vm["account"],
           "displayname": args["name"] or "", "state": "Creating", "created": stamp(), "removed": None}
    store.data["vm_snapshots"][ident] = row

    def body(job):
        with job.turn(vm["id"]):
            job.work("createVMSnapshot", "Failed to create vm snapshot")
            row["state"] = "Ready"
        return lambda: {"vmsnapshot": views.vm_snapshot(store, row)}
    return cloud.jobs.submit("createVMSnapshot", _CLASS + "vmsnapshot.CreateVMSnapshotCmd", account, args.raw,
                             ("VmSnapshot", None), body, {"id": ident})


@command("listVMSnapshot", "virtualmachineid:uuid:vms", "vmsnapshotid:uuid:vm_snapshots", "name", *PAGING)
def list_vm_snapshots(cloud, account, args):
    rows = [s for s in cloud.store.data["vm_snapshots"].values() if not s["removed"]]
    if args["virtualmachineid"]:
        rows = [s for s in rows if s["vm_id"] == args["virtualmachineid"]["id"]]
    rows = matching(mine(rows, account, args, bool(args["virtualmachineid"])), args)
    return page([views.vm_snapshot(cloud.store, s) for s in rows], args, "vmSnapshot")


@command("deleteVMSnapshot", "vmsnapshotid*:uuid:vm_snapshots", is_async=True)
def delete_vm_snapshot(cloud, account, args):
    row = args["vmsnapshotid"]

    def body(job):
        with job.turn(row["vm_id"]):
            job.work("deleteVMSnapshot", "Failed to delete vm snapshot")
            row.update(state="Removed", removed=stamp())
        return lambda: {"success": True}
    return cloud.jobs.submit("deleteVMSnapshot", _CLASS + "vmsnapshot.DeleteVMSnapshotCmd", account, args.raw,
                             ("VmSnapshot", None), body)
