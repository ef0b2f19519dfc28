# SPDX-License-Identifier: Apache-2.0
"""Virtual machines: start, stop, update, destroy, expunge, list.  Deployment is in commands_deploy.py."""
import errors
import views
from commands import PAGING, command, details_of, mine, page
from commands_volumes import check_delete
from model import stamp

EXPUNGED = {"securitygroup": [], "nic": [], "affinitygroup": [], "deleteprotection": False, "tags": []}  # [313]


def vm_class(name, admin, suffix=True):
    scope = "admin" if admin else "user"
    return f"org.apache.cloudstack.api.command.{scope}.vm.{name}Cmd{'ByAdmin' if admin and suffix else ''}"


def _missing(vm):
    return errors.invalid(f"unable to find a virtual machine with id {vm['number']}")  # [318]


@command("listVirtualMachines", "id:uuid:vms", "ids:uuids:vms", "name", "state", "zoneid:uuid:zones",
         "hostid:uuid:hosts", "networkid:uuid:networks", "details", "projectid:uuid:projects", *PAGING)
def list_vms(cloud, account, args):
    rows = [v for v in cloud.store.data["vms"].values() if not v["removed"]]
    wanted = [args["id"]] if args["id"] else args["ids"]
    if wanted:
        rows = [v for v in rows if v["id"] in [w["id"] for w in wanted]]
    if args["name"]:
        rows = [v for v in rows if args["name"] in (v["name"], v["displayname"])]
    if args["keyword"]:
        word = args["keyword"].lower()
        rows = [v for v in rows if word in v["name"].lower() or word in v["displayname"].lower()]
    if args["state"]:
        rows = [v for v in rows if v["state"].lower() == args["state"].lower()]
    if args["hostid"]:
        rows = [v for v in rows if v["host_id"] == args["hostid"]["id"]]
    if args["networkid"]:
        rows = [v for v in rows if args["networkid"]["id"] in [n["network_id"] for n in v["nics"]]]
    rows = mine(rows, account, args, bool(wanted))
    return page([views.vm(cloud.store, v, account["admin"]) for v in rows], args, "virtualmachine")


def _choose_host(cloud, vm, wanted):
    """A host in the cluster of the VM's storage; 534 for a host elsewhere [602], 533 without capacity [470]."""
    store = cloud.store
    cluster = store.cluster_of(vm)
    if wanted and cluster and wanted["cluster_id"] != cluster:
        there = store.data["clusters"][wanted["cluster_id"]]["number"]
        raise errors.ApiError(534, f"Resource [Cluster:{there}] is unreachable: Root volume is ready in different "
                              "cluster, Deployment plan provided cannot be satisfied, unable to create a deployment "
                              f"for {views.java_vm(vm)}")
    if vm["cpu"] > cloud.options.host_cpus:
        raise errors.ApiError(533, f"No destination found for a deployment for {views.java_vm(vm)}")
    if wanted:
        return wanted["id"]
    cluster = cluster or next(iter(store.data["clusters"]))
    hosts = [h["id"] for h in store.data["hosts"].values() if h["cluster_id"] == cluster]
    return cloud.jobs.rng.choice(hosts)


def start(cloud, job, vm, wanted=None, step="startVirtualMachine"):
    """The work of starting a VM inside a job, holding its turn.  A VM that cannot start is Stopped again."""
    store = cloud.store
    with store.lock:
        if store.root_of(vm["id"]) is None:
            raise errors.internal("Unable to create deployment, no usable volumes found for the VM: " + vm["id"])
        host = _choose_host(cloud, vm, wanted)
        vm.update(state="Starting", host_id=host)
        store.save()
    failure = f"Unable to orchestrate the start of {views.java_vm(vm, short=True)}."
    try:
        job.work(step, failure)
        with store.lock:
            for volume in store.volumes_of(vm["id"]):
                if volume["state"] == "Allocated":
                    store.place_volume(volume, store.pool_in(store.data["hosts"][host]["cluster_id"]))
            if cloud.hypervisor.power_on(vm):
                raise errors.internal(failure)
            vm.update(state="Running", lastupdated=stamp())
            vm["details"].pop("deployvm", None)
            store.save()
    except errors.ApiError:
        with store.lock:
            vm.update(state="Stopped", host_id=None, lastupdated=stamp())
            store.save()
        raise


@command("startVirtualMachine", "id*:uuid:vms", "hostid:uuid:hosts", is_async=True)
def start_vm(cloud, account, args):
    store, vm = cloud.store, args["id"]

    def body(job):
        with store.lock:
            if vm["removed"]:
                raise _missing(vm)
            if vm["state"] == "Running":
                raise errors.invalid(f"The virtual machine {vm['id']} ({vm['name']}) is already running")  # [117]
            if vm["state"] in ("Destroyed", "Error", "Expunging"):
                raise errors.ApiError(530, f"Unable to start {views.java_vm(vm)} in state {vm['state']}")
        with job.turn(vm["id"]):
            if vm["state"] != "Running":  # of two starts at once both succeed [247]
                start(cloud, job, vm, args["hostid"])
        return lambda: {"virtualmachine": views.vm(store, vm, account["admin"])}
    return cloud.jobs.submit("startVirtualMachine", vm_class("StartVM", account["admin"]), account, args.raw,
                             ("VirtualMachine", vm["id"]), body)


def _stop(cloud, job, vm):
    store = cloud.store
    if vm["state"] != "Running":
        return
    vm["state"] = "Stopping"
    store.save()
    try:
        job.work("stopVirtualMachine", f"Unable to stop the virtual machine due to {views.java_vm(vm, short=True)}")
    except errors.ApiError:
        vm["state"] = "Running"
        raise
    with store.lock:
        cloud.hypervisor.power_off(vm)
        vm.update(state="Stopped", host_id=None, lastupdated=stamp())
        vm["details"]["Message.ReservedCapacityFreed.Flag"] = "false"
        store.save()


@command("stopVirtualMachine", "id*:uuid:vms", "forced:boolean", is_async=True)
def stop_vm(cloud, account, args):
    vm = args["id"]

    def body(job):
        if vm["removed"]:
            raise _missing(vm)
        with job.turn(vm["id"]):
            _stop(cloud, job, vm)
        return lambda: {"virtualmachine": views.vm(cloud.store, vm, account["admin"])}
    return cloud.jobs.submit("stopVirtualMachine", vm_class("StopVM", account["admin"]), account, args.raw,
                             ("VirtualMachine", vm["id"]), body)


@command("rebootVirtualMachine", "id*:uuid:vms", is_async=True)
def reboot_vm(cloud, account, args):
    vm = args["id"]

    def body(job):
        with job.turn(vm["id"]):
            if vm["state"] != "Running":
                raise errors.invalid(f"Unable to find a running virtual machine with id {vm['number']}")
            job.work("stopVirtualMachine", "Failed to reboot vm instance")
            with cloud.store.lock:
                cloud.hypervisor.power_off(vm)
                cloud.hypervisor.power_on(vm)
                cloud.store.save()
        return lambda: {"virtualmachine": views.vm(cloud.store, vm, account["admin"])}
    return cloud.jobs.submit("rebootVirtualMachine", vm_class("RebootVM", account["admin"]), account, args.raw,
                             ("VirtualMachine", vm["id"]), body)


def _expunge(cloud, job, vm, volumes=()):
    """Gone for good: the ROOT with it, whoever swapped it in; data volumes stay, Ready and detached [316]."""
    store = cloud.store
    job.work("expungeVirtualMachine", f"Failed to expunge {views.java_vm(vm)}")
    with store.lock:
        cloud.hypervisor.forget(vm)
        for volume in store.volumes_of(vm["id"]):
            if volume["type"] == "ROOT" or volume["id"] in volumes:
                store.remove_volume(volume)
            else:
                volume.update(vm_id=None, deviceid=None, attached=None)
        vm.update(state="Expunging", removed=stamp(), host_id=None, nics=[])
        store.save()


@command("destroyVirtualMachine", "id*:uuid:vms", "expunge:boolean", "volumeids:uuids:volumes", "forced:boolean",
         is_async=True)
def destroy_vm(cloud, account, args):
    store, vm = cloud.store, args["id"]
    if args["expunge"] and not account["admin"]:
        raise errors.permission("Parameter expunge can be passed by Admin only")

    def body(job):
        if vm["removed"]:
            raise _missing(vm)
        along = [v["id"] for v in args["volumeids"] or ()]
        for volume in args["volumeids"] or ():
            if volume["vm_id"] != vm["id"] or volume["type"] != "DATADISK":
                raise errors.invalid(f"Volume with ID: {volume['id']} is not attached to the VM or is not a data disk.")
        with job.turn(vm["id"]):
            if vm["removed"]:
                raise _missing(vm)
            _stop(cloud, job, vm)
            if vm["state"] != "Destroyed":
                job.work("destroyVirtualMachine", f"Failed to destroy {views.java_vm(vm)}")
            with store.lock:
                for ident in along:
                    volume = store.data["volumes"][ident]
                    volume.update(vm_id=None, deviceid=None, attached=None)
                    check_delete(volume)
                    store.remove_volume(volume)
                vm.update(state="Destroyed", lastupdated=stamp())
                store.save()
            if args["expunge"]:
                _expunge(cloud, job, vm)
                return lambda: {"virtualmachine": dict(EXPUNGED)}
        return lambda: {"virtualmachine": views.vm(store, vm, account["admin"])}
    return cloud.jobs.submit("destroyVirtualMachine", vm_class("DestroyVM", account["admin"]), account, args.raw,
                             ("VirtualMachine", vm["id"]), body)


@command("expungeVirtualMachine", "id*:uuid:vms", is_async=True, admin=True)
def expunge_vm(cloud, account, args):
    vm = args["id"]

    def body(job):
        if vm["removed"]:
            raise _missing(vm)
        if vm["state"] not in ("Destroyed", "Error"):
            raise errors.invalid("Please destroy vm with specified id before expunging.")
        with job.turn(vm["id"]):
            _expunge(cloud, job, vm)
        return lambda: {"success": True}
    return cloud.jobs.submit("expungeVirtualMachine", vm_class("ExpungeVM", True, suffix=False), account, args.raw,
                             ("VirtualMachine", vm["id"]), body)


@command("recoverVirtualMachine", "id*:uuid:vms", admin=True)
def recover_vm(cloud, account, args):
    vm = args["id"]
    if vm["removed"] or vm["state"] != "Destroyed":
        raise errors.invalid("Unable to recover a virtual machine that is not in state Destroyed")
    vm.update(state="Stopped")
    cloud.store.save()
    return {"virtualmachine": views.vm(cloud.store, vm, account["admin"])}


@command("updateVirtualMachine", "id*:uuid:vms", "name", "displayname", "ostypeid:uuid:os_types", "details:map",
         "cleanupdetails:boolean", "haenable:boolean")
def update_vm(cloud, account, args):
    """Synchronous; `details` replaces the whole map [126-129]; allowed while the VM runs [499, 500]."""
    vm = args["id"]
    if vm["removed"]:
        raise _missing(vm)
    if args["name"]:
        from commands_deploy import check_name
        check_name(cloud.store, "updateVirtualMachine", args["name"], [n["network_id"] for n in vm["nics"]], vm)
        vm.update(name=args["name"], displayname=args["name"])
    if args["displayname"]:
        vm["displayname"] = args["displayname"]
    if args["ostypeid"]:
        vm["os_type"] = args["ostypeid"]["id"]
    if args["cleanupdetails"]:
        vm["details"] = {}
    elif args["details"]:
        vm["details"] = details_of(args["details"])
    cloud.store.save()
    return {"virtualmachine": views.vm(cloud.store, vm, account["admin"])}
