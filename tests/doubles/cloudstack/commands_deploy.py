# SPDX-License-Identifier: Apache-2.0
"""deployVirtualMachine: names, networks, MACs, the root disk, and what a failure leaves behind."""
import re

import errors
import views
from commands import command, details_of, groups_of
from commands_vms import start, vm_class
from commands_volumes import check_size, custom_id
from model import GIB, new_id, stamp

MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def check_name(store, command_name, name, network_ids, but=None):
    """Host names: RFC 952 shape [187] and unique in their networks' domain [186]."""
    if not re.fullmatch(r"[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", name):
        raise errors.parameter(
            f"Unable to execute API command {command_name.lower()} due to invalid value. Invalid value provided for "
            "API arg: name - it can contain ASCII letters 'a' through 'z', the digits '0' through '9', and the hyphen "
            "('-'), must be between 1 and 63 characters long, and can't start or end with \"-\" and can't start with "
            "digit")
    for vm in store.data["vms"].values():
        if vm["removed"] or vm is but or vm["name"].lower() != name.lower():
            continue
        for network_id in {n["network_id"] for n in vm["nics"]} & set(network_ids):
            raise errors.invalid(f"The vm with hostName {name} already exists in the network domain: "
                                 f"cs2cloud.internal; network={store.data['networks'][network_id]['name']}")


def _taken(store, network_id, field):
    return {n[field] for vm in store.data["vms"].values() if not vm["removed"]
            for n in vm["nics"] if n["network_id"] == network_id}


def _make_nic(store, network, ip, mac):
    """An address given must be free and inside; one not given is chosen."""
    ips, macs = _taken(store, network["id"], "ip"), _taken(store, network["id"], "mac")
    if mac:
        mac = mac.lower()
        if not MAC.fullmatch(mac):
            raise errors.invalid(f"Mac address is not valid: {mac}")
        if int(mac[:2], 16) & 1:
            raise errors.invalid(f"Mac address is not unicast: {mac}")
        if mac in macs:
            raise errors.invalid(f"The requested Mac address is already taken! {mac}")  # [498]
    if ip:
        if not re.fullmatch(re.escape(network["prefix"]) + r"(\d{1,3})", ip) or not 1 < int(ip.split(".")[3]) < 255:
            raise errors.invalid(f"The IP {ip} is not in the CIDR {network['prefix']}0/24 of network {network['name']}")
        if ip in ips:
            raise errors.ApiError(533, f"Unable to acquire Guest IP address for network {network['name']}", 4350)
    number = store.data["numbers"]["mac"] = store.data["numbers"]["mac"] + 1
    free = (f"{network['prefix']}{n}" for n in range(20, 255) if f"{network['prefix']}{n}" not in ips)
    return {"id": new_id(), "network_id": network["id"], "ip": ip or next(free),
            "mac": mac or f"02:02:00:{0xd0 + (number >> 16):02x}:{number >> 8 & 255:02x}:{number & 255:02x}"}


def _nics(cloud, owner, args):
    """The owner's networks, whoever deploys for it."""
    store = cloud.store
    listed = groups_of(args["iptonetworklist"], "iptonetworklist")
    if listed and (args["networkids"] or args["ipaddress"]):
        raise errors.invalid("ipToNetworkMap can't be specified along with networkIds or ipAddress")
    wanted = []
    for entry in listed:
        network = store.data["networks"].get(entry.get("networkid", ""))
        if network is None:
            raise errors.parameter(f"Unable to translate and find entity with networkId: {entry.get('networkid')}")
        wanted.append((network, entry.get("ip"), entry.get("mac")))
    for index, network in enumerate(args["networkids"] or ()):
        wanted.append((network, args["ipaddress"] if index == 0 else None, args["macaddress"] if index == 0 else None))
    if not wanted:
        own = [n for n in store.data["networks"].values() if n["account"] == owner["name"]]
        if len(own) != 1:
            raise errors.invalid("More than 1 default Isolated networks are found for account Account "
                                 f"[{owner['name']}]; please specify networkIds")
        wanted = [(own[0], None, None)]
    for network, _, _ in wanted:
        if network["account"] != owner["name"] and not owner["admin"]:
            raise errors.permission(f"Unable to use network with id= {network['id']}, permission denied")  # [393]
    return [_make_nic(store, *entry) for entry in wanted]


def _shape(offering, details):
    """(cpus, MHz, MB) of an offering; a custom one takes them from the details."""
    if not offering["custom"]:
        return offering["cpu"], offering["mhz"], offering["mb"]
    values = [details.pop(key, None) for key in ("cpuNumber", "cpuSpeed", "memory")]
    if not all(value and value.isdigit() and int(value) > 0 for value in (values[0], values[2])):
        raise errors.invalid("Need to specify custom parameter values cpu, cpu speed and memory when using custom "
                             "offering")
    return int(values[0]), int(values[1] or 1000), int(values[2])


def _firmware(args, details):
    """boottype=UEFI with its bootmode becomes the detail UEFI=SECURE|LEGACY [520]."""
    kind, mode = (args["boottype"] or "").upper(), (args["bootmode"] or "").upper()
    if kind not in ("", "UEFI", "BIOS"):
        raise errors.parameter(f"Invalid Boot Type: {args['boottype']}, should be one of [UEFI, BIOS]")
    if kind == "UEFI":
        if mode not in ("SECURE", "LEGACY"):
            raise errors.parameter(f"Invalid Boot Mode: {args['bootmode'] or 'null'}. Valid values are: LEGACY, SECURE")
        details["UEFI"] = mode
    elif mode not in ("", "LEGACY"):
        raise errors.parameter("Boot mode must not be specified unless the boot type is UEFI")


@command("deployVirtualMachine", "zoneid*:uuid:zones", "serviceofferingid*:uuid:service_offerings",
         "templateid:uuid:templates", "volumeid:uuid:volumes", "snapshotid:uuid:snapshots", "networkids:uuids:networks",
         "iptonetworklist:map", "ipaddress", "macaddress", "name", "displayname", "startvm:boolean", "customid",
         "account", "domainid", "projectid:uuid:projects", "diskofferingid:uuid:disk_offerings", "size:long", "rootdisksize:long", "details:map",
         "boottype", "bootmode", "hypervisor", "hostid:uuid:hosts", "clusterid:uuid:clusters", "userdata",
         "extraconfig", is_async=True)
def deploy_vm(cloud, account, args):
    store = cloud.store
    template, offering = args["templateid"], args["serviceofferingid"]
    if args["volumeid"] or args["snapshotid"]:
        raise errors.invalid("Deployment of virtual machine is supported only for Zone-wide storage pools")  # [183]
    if template is None:
        raise errors.internal("Please provide only one of the following parameters - template ID, volume ID or "
                              "snapshot ID")  # [185]
    if args["account"] and not args["domainid"]:
        raise errors.invalid("Account must be specified with domainId parameter")
    owner = args["account"] or (args["projectid"] or {}).get("account") or account["name"]
    if owner not in store.data["accounts"] or owner != account["name"] and not account["admin"]:
        raise errors.permission(f"Unable to find account {owner} in domain {store.data['domain_id']}")
    if args["hypervisor"] and args["hypervisor"].upper() != "KVM":
        raise errors.invalid("Hypervisor passed to the deployVm call, is different from the hypervisor type of the "
                             "Template")
    details = details_of(args["details"])
    _firmware(args, details)
    shape = _shape(offering, details)
    nics = _nics(cloud, store.data["accounts"][owner], args)
    if args["name"]:
        check_name(store, "deployVirtualMachine", args["name"], [n["network_id"] for n in nics])
    root_size = template["size"]
    if args["rootdisksize"] is not None:
        check_size(args["rootdisksize"])
        if args["rootdisksize"] * GIB < root_size:
            raise errors.invalid(f"Unsupported: rootdisksize override ({args['rootdisksize']} GB) is smaller than "
                                 f"template size {root_size} B")
        root_size = args["rootdisksize"] * GIB
        details["rootdisksize"] = str(args["rootdisksize"])
    ident = custom_id(store, account, "vms", args["customid"])
    number = store.number("vm")
    name = args["name"] or f"VM-{ident}"
    vm = {"id": ident, "number": number, "name": name, "displayname": args["displayname"] or name, "account": owner,
          "state": "Stopped", "template": template["id"], "offering": offering["id"], "cpu": shape[0],
          "mhz": shape[1], "mb": shape[2], "os_type": template["os_type"], "nics": nics,
          "details": {"deployvm": "true", **details}, "instance": f"i-{account['number']}-{number}-VM",
          "host_id": None, "cluster_id": args["clusterid"] and args["clusterid"]["id"], "created": stamp(),
          "lastupdated": None, "removed": None, "devices": {}, "boots": 0}
    if args["hostid"]:
        vm["cluster_id"] = args["hostid"]["cluster_id"]
    store.data["vms"][ident] = vm
    store.add_volume(owner, f"ROOT-{number}", root_size, kind="ROOT", service_offering=offering["id"],
                     template=template["id"], vm_id=ident, deviceid=0)
    if args["diskofferingid"]:
        disk = args["diskofferingid"]
        store.add_volume(owner, f"DATA-{number}", (args["size"] or 1 if disk["custom"] else disk["gb"]) * GIB,
                         offering=disk["id"], vm_id=ident, deviceid=1)

    def body(job):
        with job.turn(ident):
            try:
                if args["startvm"] is False:
                    job.work("deployVirtualMachine", f"Unable to create a deployment for {views.java_vm(vm)}")
                else:
                    start(cloud, job, vm, args["hostid"], "deployVirtualMachine")
            except errors.ApiError:
                with store.lock:
                    vm.update(state="Error", lastupdated=stamp())  # and there it stays [470, 471]
                    store.save()
                raise
        return lambda: {"virtualmachine": views.vm(store, vm, account["admin"])}
    return cloud.jobs.submit("deployVirtualMachine", vm_class("DeployVM", account["admin"]), account, args.raw,
                             ("VirtualMachine", ident), body, {"id": ident})
