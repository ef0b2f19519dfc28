# SPDX-License-Identifier: Apache-2.0
"""Volumes: create, list, attach, detach, delete, resize, give away.

Numbers in brackets are the recordings a text or a rule was taken from.
"""
import os
import re
import subprocess

import errors
import overlap
import views
from commands import PAGING, command, groups_of, is_project, matching, mine, page
from model import GIB, new_id, stamp

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
MAX_CUSTOM_GB = 1024


def volume_class(name, admin):
    scope = "admin" if admin else "user"
    return f"org.apache.cloudstack.api.command.{scope}.volume.{name}Cmd{'ByAdmin' if admin else ''}"


def custom_id(store, account, table, ident):
    """The id of a new row: customid is for root admins, and a repeat is refused [486, 487]."""
    if not ident:
        return new_id()
    if not account["admin"]:
        raise errors.permission("Please check your permissions, you are not allowed to create/update custom id")
    if not UUID.fullmatch(ident):
        raise errors.invalid(f"UUID: {ident} doesn't follow the UUID format")
    row = store.data[table].get(ident)
    if row and not row["removed"]:
        raise errors.invalid(f"UUID: {ident} already exists so can't create/update with custom id")
    if row:  # the check does not see removed rows; the database's unique key does
        raise errors.internal(f"DB Exception on: Duplicate entry '{ident}' for key 'uc_{table}__uuid'")
    return ident


def check_size(gigabytes):
    if gigabytes <= 0:
        raise errors.invalid("Disk size must be larger than 0")  # [394, 395]
    if gigabytes > MAX_CUSTOM_GB:
        raise errors.invalid(f"Volume size: {gigabytes} GB is out of allowed range. Min: 1. Max: {MAX_CUSTOM_GB}")


def _size_of(args, snapshot):
    """Bytes of a new volume, after the offering's rules."""
    offering = args["diskofferingid"]
    if snapshot:
        return snapshot["size"]  # a size given along is silently ignored [160, 575]
    if offering is None:
        raise errors.invalid("At least one of disk Offering ID or snapshot ID must be passed whilst creating volume")
    if not offering["custom"]:
        if args["size"] is not None:
            raise errors.invalid("This disk offering does not allow custom size")
        return offering["gb"] * GIB
    if args["size"] is None:
        raise errors.invalid("This disk offering requires a custom size specified")
    check_size(args["size"])
    return args["size"] * GIB


@command("createVolume", "account", "domainid", "snapshotid:uuid:snapshots", "zoneid:uuid:zones", "customid",
         "diskofferingid:uuid:disk_offerings", "size:long", "storageid:uuid:pools", "virtualmachineid:uuid:vms",
         "displayvolume:boolean", "name", is_async=True)
def create_volume(cloud, account, args):
    store, snapshot, pool = cloud.store, args["snapshotid"], args["storageid"]
    size = _size_of(args, snapshot)
    if args["zoneid"] is None and snapshot is None:
        raise errors.invalid("Unable to find zone by id null")
    if pool is not None and not account["admin"]:
        raise errors.permission()
    owner = args["account"] or account["name"]
    if owner not in store.data["accounts"] or owner != account["name"] and not account["admin"]:
        raise errors.permission(f"Unable to find account {owner} in domain {store.data['domain_id']}")
    ident = custom_id(store, account, "volumes", args["customid"])
    offering = args["diskofferingid"] or (snapshot and store.data["disk_offerings"].get(snapshot["offering"]))
    volume = store.add_volume(owner, args["name"] or f"VOL-{ident[:8]}", size, ident=ident,
                              offering=offering and offering["id"])
    vm = args["virtualmachineid"] if snapshot else None  # without a snapshot it is ignored [485]

    def body(job):
        job.work("createVolume", f"Failed to create volume: {views.java_volume(volume)}")
        with store.lock:
            if pool is not None and (offering or {}).get("tags") not in (None, pool["tags"]):
                volume["state"] = "Destroy"  # and there it stays [482]
                store.save()
                raise errors.internal(f"Failed to create volume: {views.java_volume(volume)}")
            volume["state"] = "Creating" if pool or snapshot else "Allocated"
        if pool or snapshot:
            try:
                job.work("placeVolume", f"Failed to create volume: {views.java_volume(volume)}")
            except errors.ApiError:
                volume["state"] = "Destroy"
                raise
            if snapshot:
                subprocess.run(["cp", "--sparse=always", store.volume_file(snapshot["id"]), store.volume_file(ident)],
                               check=True)
            with store.lock:
                store.place_volume(volume, pool["id"] if pool else store.pool_in(vm and store.cluster_of(vm)))
                store.save()
        if vm:
            attach(cloud, job, volume, vm, None)
        return lambda: {"volume": views.volume(store, volume, account["admin"])}
    return cloud.jobs.submit("createVolume", volume_class("CreateVolume", account["admin"]), account, args.raw,
                             ("Volume", ident), body, {"id": ident})


@command("listVolumes", "id:uuid:volumes", "ids:uuids:volumes", "name", "virtualmachineid:uuid:vms", "type", "state",
         "zoneid:uuid:zones", "storageid:uuid:pools", "tags:map", "projectid:uuid:projects", *PAGING)
def list_volumes(cloud, account, args):
    rows = [v for v in cloud.store.data["volumes"].values() if not v["removed"]]
    wanted = [args["id"]] if args["id"] else args["ids"]
    if wanted:
        rows = [v for v in rows if v["id"] in [w["id"] for w in wanted]]
    if args["virtualmachineid"]:
        rows = [v for v in rows if v["vm_id"] == args["virtualmachineid"]["id"]]
        rows.sort(key=lambda v: v["deviceid"])
    for field in ("type", "state"):
        if args[field]:
            rows = [v for v in rows if v[field].lower() == args[field].lower()]
    if args["storageid"]:
        rows = [v for v in rows if v["pool_id"] == args["storageid"]["id"]]
    for tag in groups_of(args["tags"], "tags"):
        rows = [v for v in rows if any(t["key"] == tag.get("key") and t["value"] == tag.get("value", t["value"])
                                       for t in v["tags"])]
    if not wanted and not args["projectid"]:  # the volumes of a project's VM show only where the project is named
        rows = [v for v in rows if not is_project(v["account"])]
    by_id = bool(wanted or args["virtualmachineid"])
    rows = matching(mine(rows, account, args, by_id), args)
    return page([views.volume(cloud.store, v, account["admin"]) for v in rows], args, "volume")


def _device_id(cloud, vm, wanted):
    """The device number of a data volume: free, never 3 (CD-ROM), within the hypervisor's limit [087, 088]."""
    used = {v["deviceid"] for v in cloud.store.volumes_of(vm["id"])}
    highest = cloud.options.max_data_disks + 1
    if wanted is None:
        return next(n for n in range(1, highest + 1) if n != 3 and n not in used)
    if wanted < 0 or wanted > highest or wanted == 3:
        raise errors.internal(f"deviceId should be 0,1,2,4-{highest}")
    if wanted in used:
        raise errors.internal(f"deviceId {wanted} is used by vm {vm['number']}")
    return wanted


def _may_attach(cloud, volume, vm, deviceid):
    """The checks that are made at once and again when the VM's turn has come; all are 431."""
    store = cloud.store
    if volume["removed"] or volume["state"] in ("Destroy", "Expunging"):
        raise errors.invalid("Please specify a volume that is not destroyed.")
    if volume["vm_id"]:
        raise errors.invalid("Please specify a volume that is not attached to any VM.")
    if vm["state"] not in ("Running", "Stopped", "Starting", "Stopping"):
        raise errors.invalid("Please specify a VM that is on of the following states: [Running, Stopped].")
    if any(s["vm_id"] == vm["id"] and s["state"] == "Ready" for s in store.data["vm_snapshots"].values()):
        raise errors.invalid(f"Unable to attach volume to Instance {vm['instance']}/{vm['id']}, please specify an "
                             "Instance that does not have Instance Snapshots")
    if deviceid == 0:
        if vm["state"] == "Running":
            raise errors.invalid("Root volume detach can happen only when vm is in states: Stopped or Destroyed")
        if store.root_of(vm["id"]):
            raise errors.invalid("Vm already has root volume attached to it")
    limit = cloud.options.max_data_disks
    if deviceid != 0 and sum(v["type"] != "ROOT" for v in store.volumes_of(vm["id"])) >= limit:
        raise errors.invalid(f"The specified VM already has the maximum number of data disks ({limit}) attached. "
                             "Please specify another VM.")
    if volume["account"] != vm["account"]:  # before the root admin's bypass, so nobody gets around it
        raise errors.ApiError(530, f"Entity {views.java_volume(volume)} and entity {views.java_vm(vm)} belong to "
                              "different accounts")


def attach(cloud, job, volume, vm, deviceid):
    """The work of attachVolume inside a job: create or move the volume where needed, then hand it over."""
    store = cloud.store
    refusal = f"Failed to attach volume {volume['name']} to VM {vm['displayname']}; internal error: " \
              "unable to find disk on host"
    with store.lock:
        _may_attach(cloud, volume, vm, deviceid)
        if volume["state"] not in ("Allocated", "Ready", "Uploaded"):
            raise errors.invalid("Volume state must be in Allocated, Ready or in Uploaded state")  # [334]
    with job.turn(vm["id"]):
        with store.lock:
            if volume["vm_id"]:
                raise errors.internal("This volume is already attached to a VM.")  # [274]
            if volume["state"] not in ("Allocated", "Ready"):
                raise errors.internal(f"Volume: {_volume_object(store, volume)} is in {volume['state']}. "
                                      "It should be in Ready or Allocated state")  # [272]
            _may_attach(cloud, volume, vm, deviceid)
            before = volume["state"]
            number = 0 if deviceid == 0 else _device_id(cloud, vm, deviceid)
            # An Allocated volume as the root of a VM without a place stays Allocated until the start [512].
            place = before == "Allocated" and not (number == 0 and store.cluster_of(vm) is None)
            here, there = _cluster(store, volume), store.cluster_of(vm)
            move = before == "Ready" and there is not None and here != there
            volume["state"] = "Creating" if place else "Attaching"
            store.save()
        try:
            if place or move:
                job.work("placeVolume" if place else "moveVolume",
                         f'Failed to create volume [{{"name":"{volume["name"]}","uuid":"{volume["id"]}"}}] due to '
                         "[Simulated failure].")
                with store.lock:
                    store.place_volume(volume, store.pool_in(there))
                    volume["state"], before = "Attaching", "Ready"
                    store.save()
            job.work("attachVolume", refusal)
        except errors.ApiError:
            with store.lock:
                volume["state"] = before
                store.save()
            raise
        with store.lock:
            volume.update(state=before, vm_id=vm["id"], deviceid=number, attached=stamp(),
                          type="ROOT" if number == 0 else "DATADISK")
            store.save()
            if vm["state"] == "Running":
                cloud.hypervisor.plug(vm, volume, {"id": volume["id"], "virtualmachineid": vm["id"]})


def _cluster(store, volume):
    return volume["pool_id"] and store.data["pools"][volume["pool_id"]]["cluster_id"]


def _volume_object(store, volume):
    quote = str.replace
    inner = quote(views.java_volume(volume), '"', '\\"')
    pool = store.data["pools"].get(volume["pool_id"] or "")
    shown = "null"
    if pool:
        shown = '"' + quote(f'StoragePool {{"id":{pool["number"]},"name":"{pool["name"]}","poolType":'
                            f'"NetworkFilesystem","uuid":"{pool["id"]}"}}', '"', '\\"') + '"'
    return f'VolumeObject {{"dataStore":{shown},"volumeVO":"{inner}"}}'


@command("attachVolume", "id*:uuid:volumes", "virtualmachineid*:uuid:vms", "deviceid:long", is_async=True)
def attach_volume(cloud, account, args):
    volume, vm = args["id"], args["virtualmachineid"]

    def body(job):
        attach(cloud, job, volume, vm, args["deviceid"])
        if job.undone:
            _take_off(cloud, volume, vm)
        return lambda: {"volume": views.volume(cloud.store, volume, account["admin"])}
    return cloud.jobs.submit("attachVolume", volume_class("AttachVolume", account["admin"]), account, args.raw,
                             ("Volume", volume["id"]), body)


def _check_detach(cloud, account, volume, vm):
    if volume["removed"] or vm is None:
        raise errors.invalid("The specified volume is not attached to a VM.")  # [081]
    if not account["admin"] and volume["account"] != account["name"]:
        raise errors.ApiError(530, errors.permission().text)  # [386]: within the job it is a 530
    if volume["type"] == "ROOT" and vm["state"] not in ("Stopped", "Destroyed"):
        raise errors.invalid("Root volume detach can happen only when vm is in states: Stopped or Destroyed")
    if vm["state"] not in ("Running", "Stopped", "Starting", "Stopping", "Destroyed"):
        raise errors.invalid("Please specify a VM that is either running or stopped.")


def _take_off(cloud, volume, vm):
    with cloud.store.lock:
        cloud.hypervisor.unplug(vm, volume)
        volume.update(vm_id=None, deviceid=None, attached=None, type="DATADISK")
        cloud.store.save()


@command("detachVolume", "id:uuid:volumes", "virtualmachineid:uuid:vms", "deviceid:long", is_async=True)
def detach_volume(cloud, account, args):
    store, volume = cloud.store, args["id"]

    def body(job):
        if volume is None:
            if args["virtualmachineid"] and args["deviceid"] is not None:  # broken in the real one, too [092]
                raise errors.internal('Cannot invoke "java.lang.Long.longValue()" because "volumeId" is null')
            raise errors.invalid("Please provide either a volume id, or a tuple(device id, instance id)")
        with store.lock:
            vm = store.data["vms"].get(volume["vm_id"] or "")
            _check_detach(cloud, account, volume, vm)
        with job.turn(vm["id"]):
            with store.lock:
                if volume["vm_id"]:  # a second detach that waited finds it gone and succeeds, too [242]
                    _check_detach(cloud, account, volume, vm)
            job.work("detachVolume", f"Failed to detach volume {volume['name']} from VM {vm['displayname']}; "
                     "device is busy")
            number = volume["deviceid"]
            _take_off(cloud, volume, vm)
        if job.undone:
            attach(cloud, job, volume, vm, number)
        return lambda: {"volume": views.volume(store, volume, account["admin"])}
    return cloud.jobs.submit("detachVolume", volume_class("DetachVolume", account["admin"]), account, args.raw,
                             ("Volume", volume["id"]) if volume else (None, None), body)


def check_delete(volume):
    if volume["removed"]:
        raise errors.invalid(f"Unable to find volume with ID: {volume['number']}")
    if volume["vm_id"]:
        raise errors.invalid("Please specify a volume that is not attached to any VM.")
    if volume["state"] not in ("Allocated", "Ready", "Destroy"):
        raise errors.internal(
            f'Failed to transit volume {{"name":"{volume["name"]}","uuid":"{volume["id"]}"}} to [DestroyRequested] '
            f"due to [Unable to transition to a new state from {volume['state']} via DestroyRequested].")  # [334]


@command("deleteVolume", "id*:uuid:volumes")
def delete_volume(cloud, account, args):
    overlap.check(cloud.store, "deleteVolume", [args["id"]["id"]])
    check_delete(args["id"])
    cloud.store.remove_volume(args["id"])
    cloud.store.save()
    return {"success": True}


@command("destroyVolume", "id*:uuid:volumes", "expunge:boolean", is_async=True)
def destroy_volume(cloud, account, args):
    store, volume = cloud.store, args["id"]

    def body(job):
        check_delete(volume)
        if volume["state"] == "Allocated" and not args["expunge"]:
            raise errors.invalid("The volume in Allocated/Uploaded state can only be expunged not "
                                 "destroyed/recovered")
        job.work("destroyVolume", "Failed to destroy volume")
        with store.lock:
            check_delete(volume)
            if args["expunge"]:
                store.remove_volume(volume)
            else:
                volume["state"] = "Destroy"
            store.save()
        return lambda: {"volume": views.volume(store, volume, account["admin"])}
    return cloud.jobs.submit("destroyVolume", volume_class("DestroyVolume", account["admin"]), account, args.raw,
                             ("Volume", volume["id"]), body)


@command("recoverVolume", "id*:uuid:volumes")
def recover_volume(cloud, account, args):
    volume = args["id"]
    if volume["state"] != "Destroy":
        raise errors.invalid("Please specify a volume in Destroy state.")
    volume["state"] = "Ready" if volume["pool_id"] else "Allocated"
    cloud.store.save()
    return {"volume": views.volume(cloud.store, volume, account["admin"])}


@command("updateVolume", "id*:uuid:volumes", "name", is_async=True)
def update_volume(cloud, account, args):
    volume = args["id"]

    def body(job):
        with cloud.store.lock:
            volume["name"] = args["name"] or volume["name"]
        return lambda: {"volume": views.volume(cloud.store, volume, account["admin"])}
    return cloud.jobs.submit("updateVolume", volume_class("UpdateVolume", account["admin"]), account, args.raw,
                             ("Volume", volume["id"]), body)


@command("resizeVolume", "id*:uuid:volumes", "size:long", "shrinkok:boolean", "diskofferingid:uuid:disk_offerings",
         is_async=True)
def resize_volume(cloud, account, args):
    store, volume = cloud.store, args["id"]

    def body(job):
        new = volume["size"] if args["size"] is None else args["size"] * GIB
        if volume["removed"]:
            raise errors.invalid(f"Unable to find volume with ID: {volume['number']}")
        if args["size"] is not None:
            if volume["type"] != "ROOT" and not args["diskofferingid"] and volume["offering"] and \
                    not store.data["disk_offerings"][volume["offering"]]["custom"]:
                raise errors.invalid("To change a volume's size without providing a new disk offering, its current disk offering "
                                     "must be customizable or it must be a root volume (if providing a disk offering, make sure "
                                     "it is different from the current disk offering).")
            if args["size"] > MAX_CUSTOM_GB:
                raise errors.ApiError(432, f"Volume size: {args['size']} GB is out of allowed range. Min: 1. "
                                      f"Max: {MAX_CUSTOM_GB}")  # [590]
            if new < volume["size"] and not args["shrinkok"]:
                raise errors.ApiError(432, f"Going from existing size of {volume['size']} to size of {new} would "
                                      "shrink the volume.Need to sign off by supplying the shrinkok parameter with "
                                      "value of true.")  # [077]
        with job.turn(volume["vm_id"]):
            if any(s["volume_id"] == volume["id"] and s["state"] in ("Creating", "BackingUp")
                   for s in store.data["snapshots"].values()):
                raise errors.internal("There is/are unbacked up snapshot(s) on this volume, resize volume is not "
                                      "permitted, please try again later.")  # [527]
            failed = f"Failed to resize volume operation of volume UUID: [{volume['id']}] due to - Failed to resize"
            job.work("resizeVolume", failed)
            with store.lock:
                if new < volume["size"]:
                    raise errors.internal(failed)  # shrinking fails at the host [588]
                volume["size"] = new
                if volume["pool_id"]:
                    os.truncate(store.volume_file(volume["id"]), new)
                    cloud.hypervisor.resized(volume)
                store.save()
        return lambda: {"volume": views.volume(store, volume, account["admin"])}
    return cloud.jobs.submit("resizeVolume", volume_class("ResizeVolume", account["admin"]), account, args.raw,
                             ("Volume", volume["id"]), body)


@command("assignVolume", "volumeid*:uuid:volumes", "accountid:uuid:accounts", "projectid:uuid:projects", admin=True)
def assign_volume(cloud, account, args):
    store, volume, new = cloud.store, args["volumeid"], args["accountid"]
    shown = f'{{"id":{volume["number"]},"name":"{volume["name"]}","uuid":"{volume["id"]}"}}'
    if (new is None) == (args["projectid"] is None):
        raise errors.invalid("Please provide either an account ID or a project ID.")
    overlap.check(store, "assignVolume", [volume["id"]])
    new = new or store.data["accounts"][args["projectid"]["account"]]
    if volume["removed"]:
        raise errors.invalid(f"No volume was found with UUID [{volume['id']}].")
    if volume["vm_id"]:
        vm = views.java_vm(store.data["vms"][volume["vm_id"]])
        raise errors.permission(f"Volume [{shown}] is attached to [{vm}], so it cannot be moved to a different account.")
    if any(s["volume_id"] == volume["id"] and s["state"] not in ("Destroyed", "Error")
           for s in store.data["snapshots"].values()):
        raise errors.permission(f"Volume [{shown}] has snapshots. Remove the volume's snapshots before assigning it "
                                "to another account.")
    if new["name"] == volume["account"]:
        raise errors.invalid(f"The new account and the old account are the same [{new['name']}].")
    quota = cloud.options.tenant_volumes
    if quota and sum(v["account"] == new["name"] and not v["removed"] for v in store.data["volumes"].values()) >= quota:
        raise errors.ApiError(535, f"Maximum amount of resources of Type = 'volume' for Account Name={new['name']} "
                              f"in Domain Id={store.data['domain_id']} has been exceeded.", 4370)
    volume["account"] = new["name"]
    store.save()
    return {"volume": views.volume(store, volume, account["admin"])}
