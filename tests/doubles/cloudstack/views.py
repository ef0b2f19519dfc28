# SPDX-License-Identifier: Apache-2.0
"""How rows look on the wire: field names and types as recorded.  Call with the store's lock held.

An ordinary user sees less of a volume and of a VM than an admin: storage, path, host, hypervisor.
"""
import json

_VOLUME_ADMIN = {"storagetype", "hypervisor", "displayvolume", "storage", "path", "storageid", "clusterid",
                 "clustername", "podid", "podname", "diskkbsread", "diskkbswrite", "diskioread",
                 "diskiowrite", "vmtype"}
_VM_ADMIN = {"hostid", "hostname", "hostcontrolstate", "instancename", "displayvm", "pooltype"}


def owner(store, account_name):
    project = next((p for p in store.data["projects"].values() if p["account"] == account_name), None)
    if project:  # in the place of the account
        return {"projectid": project["id"], "project": project["name"], "domainid": store.data["domain_id"], "domain": "ROOT",
                "domainpath": "ROOT"}
    return {"account": account_name, "domainid": store.data["domain_id"], "domain": "ROOT", "domainpath": "ROOT"}


def in_zone(store):
    zone = store.data["zones"][store.data["zone_id"]]
    return {"zoneid": zone["id"], "zonename": zone["name"]}


def java_volume(volume, instance=None):
    """A volume as Java's toString shows it in error texts."""
    number = str(instance) if instance else "null"
    return (f'Volume {{"id":{volume["number"]},"instanceId":{number},"name":{json.dumps(volume["name"])},'
            f'"uuid":"{volume["id"]}","volumeType":"{volume["type"]}"}}')


def java_vm(vm, short=False):
    if short:
        return f'VM instance {{"instanceName":"{vm["instance"]}","uuid":"{vm["id"]}"}}'
    return (f'VM instance {{"id":{vm["number"]},"instanceName":"{vm["instance"]}","state":"{vm["state"]}",'
            f'"type":"User","uuid":"{vm["id"]}"}}')


def _vm_of(store, volume):
    return store.data["vms"].get(volume["vm_id"] or "")


def volume(store, row, admin):
    data = store.data
    vm = _vm_of(store, row)
    out = {"id": row["id"], "name": row["name"], **in_zone(store), "type": row["type"]}
    if vm:
        out.update(deviceid=row["deviceid"], virtualmachineid=vm["id"])
    if row["template"]:
        template = data["templates"][row["template"]]
        out.update(templateid=template["id"], templatename=template["name"],
                   templatedisplaytext=template["text"])
    if vm:
        out.update(vmname=vm["name"], vmdisplayname=vm["displayname"], vmstate=vm["state"], vmtype="User")
    out.update(provisioningtype="thin", size=row["size"], created=row["created"], state=row["state"],
               **owner(store, row["account"]), storagetype="shared")
    if vm and row["pool_id"]:
        out.update(diskkbsread=0, diskkbswrite=0, diskioread=0, diskiowrite=0)
    out["hypervisor"] = "KVM" if row["pool_id"] else "None"
    if row["offering"]:
        offering = data["disk_offerings"][row["offering"]]
        out.update(diskofferingid=offering["id"], diskofferingname=offering["name"],
                   diskofferingdisplaytext=offering["text"])
    pool = data["pools"].get(row["pool_id"] or "")
    if pool:
        out["storage"] = pool["name"]
    if vm and row["attached"]:
        out["attached"] = row["attached"]
    out["destroyed"] = row["state"] in ("Destroy", "Expunging", "Expunged")
    if row["service_offering"]:
        offering = data["service_offerings"][row["service_offering"]]
        out.update(serviceofferingid=str(offering["number"]), serviceofferingname=offering["name"],
                   serviceofferingdisplaytext=offering["name"])
    out.update(isextractable=row["type"] != "ROOT" or not row["template"], displayvolume=True)
    if pool:
        out.update(path=row["path"], storageid=pool["id"])
    out.update(quiescevm=False, supportsstoragesnapshot=False, deleteprotection=False)
    if pool:
        cluster = data["clusters"][pool["cluster_id"]]
        out.update(clusterid=cluster["id"], clustername=cluster["name"], podid=data["pod_id"], podname="POD0")
    out.update(tags=row["tags"], hasannotations=False)
    return out if admin else {k: v for k, v in out.items() if k not in _VOLUME_ADMIN}


def nic(store, row, running, index):
    network = store.data["networks"][row["network_id"]]
    out = {"id": row["id"], "networkid": network["id"], "networkname": network["name"],
           "netmask": "255.255.255.0", "gateway": network["gateway"], "ipaddress": row["ip"]}
    if running:
        out.update(isolationuri=f"vlan://{network['vlan']}", broadcasturi=f"vlan://{network['vlan']}")
    out.update(traffictype="Guest", type="Isolated", isdefault=index == 0, macaddress=row["mac"], secondaryip=[],
               extradhcpoption=[], deviceid=str(index), enabled=True)
    return out


def vm(store, row, admin):
    data = store.data
    account = data["accounts"][row["account"]]
    template = data["templates"].get(row["template"] or "")
    offering = data["service_offerings"][row["offering"]]
    root = store.root_of(row["id"])
    os_type = data["os_types"][row["os_type"]]
    out = {"id": row["id"], "name": row["name"], "displayname": row["displayname"], **owner(store, row["account"]),
           "userid": account["user_id"], "username": account["name"], "created": row["created"]}
    if row["lastupdated"]:
        out["lastupdated"] = row["lastupdated"]
    out.update(state=row["state"], haenable=False, **in_zone(store))
    if row["host_id"]:
        out.update(hostid=row["host_id"], hostname=data["hosts"][row["host_id"]]["name"],
                   hostcontrolstate="Enabled")
    if template:
        out.update(templateid=template["id"], templatename=template["name"], templatetype="USER",
                   templateformat="QCOW2", templatedisplaytext=template["text"])
    out.update(passwordenabled=False, isos=[], isomaxcount=1, serviceofferingid=offering["id"],
               serviceofferingname=offering["name"])
    if root and root["offering"]:
        disk = data["disk_offerings"][root["offering"]]
        out.update(diskofferingid=disk["id"], diskofferingname=disk["name"])
    out.update(cpunumber=row["cpu"], cpuspeed=row["mhz"], memory=row["mb"], guestosid=row["os_type"])
    if root:
        out.update(rootdeviceid=0, rootdevicetype="ROOT")
    running = row["state"] == "Running" or not row["boots"]
    out.update(securitygroup=[], nic=[nic(store, n, running, i) for i, n in enumerate(row["nics"])],
               hypervisor="KVM")
    if row["nics"]:
        out["ipaddress"] = row["nics"][0]["ip"]
    out.update(instancename=row["instance"], details=dict(row["details"]), affinitygroup=[], displayvm=True,
               isdynamicallyscalable=False, deleteprotection=False, ostypeid=row["os_type"],
               osdisplayname=os_type["name"])
    if "UEFI" in row["details"]:
        out.update(bootmode=row["details"]["UEFI"].lower(), boottype="Uefi")
    if root and root["pool_id"]:
        out["pooltype"] = "NetworkFilesystem"
    out.update(receivedbytes=0, sentbytes=0, arch="x86_64", tags=[], hasannotations=False)
    return out if admin else {k: v for k, v in out.items() if k not in _VM_ADMIN}


def snapshot(store, row):
    volume_row = store.data["volumes"][row["volume_id"]]
    return {"id": row["id"], **owner(store, row["account"]), "volumeid": volume_row["id"],
            "volumename": volume_row["name"], "volumetype": volume_row["type"],
            "volumestate": volume_row["state"], "created": row["created"], "name": row["name"],
            "intervaltype": "MANUAL", "state": row["state"], "physicalsize": 0, **in_zone(store),
            "revertable": False, "virtualsize": row["size"], "tags": [], "hasannotations": False}


def vm_snapshot(store, row):
    vm_row = store.data["vms"][row["vm_id"]]
    return {"id": row["id"], "name": row["name"], "state": row["state"], "displayname": row["displayname"],
            **in_zone(store), "virtualmachineid": vm_row["id"], "virtualmachinename": vm_row["displayname"],
            "current": True, "type": "Disk", "created": row["created"], **owner(store, row["account"]),
            "hypervisor": "KVM", "tags": [], "hasannotations": False}


def job(store, row):
    data = store.data
    account = data["accounts"][row["account"]]
    out = {"accountid": account["id"], "account": account["name"], "domainid": data["domain_id"],
           "domainpath": "ROOT", "userid": account["user_id"], "cmd": row["class"], "jobprocstatus": 0,
           "jobresultcode": row["code"]}
    if row["status"] and not row["lost"]:
        out.update(jobresulttype="object", jobresult=row["result"])
    if row["instance_type"]:
        out["jobinstancetype"] = row["instance_type"]
    if row["instance_id"]:
        out["jobinstanceid"] = row["instance_id"]
    if not row["status"] or row["lost"]:
        out.update(managementserverid=data["ms_id"], managementservername="localhost")
    out["created"] = row["created"]
    if row["completed"]:
        out["completed"] = row["completed"]
    out.update(jobid=row["id"], jobstatus=row["status"])
    return out


def zone(store, row, admin):
    out = {"id": row["id"], "name": row["name"], "networktype": "Advanced", "securitygroupsenabled": False,
           "gputotal": 0, "gpuused": 0, "allocationstate": "Enabled", "dhcpprovider": "VirtualRouter",
           "localstorageenabled": False, "tags": [], "allowuserspecifyvrmtu": False, "type": "Core",
           "isnsxenabled": False, "ismultiarch": False, "routedmodeenabled": True, "hasannotations": False}
    if admin:
        out.update(dns1="10.147.28.6", internaldns1="10.147.28.6", guestcidraddress="10.1.1.0/24")
    return out


def service_offering(store, row):
    out = {"id": row["id"], "name": row["name"], "state": "Active", "displaytext": row["name"]}
    if not row["custom"]:
        out.update(cpunumber=row["cpu"], cpuspeed=row["mhz"], memory=row["mb"])
    out.update(created=store.data["created"], storagetype="shared", provisioningtype="thin", offerha=False,
               limitcpuuse=False, isvolatile=False, issystem=False, defaultuse=False, iscustomized=row["custom"],
               rootdisksize=0, dynamicscalingenabled=True, diskofferingstrictness=False, encryptroot=False,
               hasannotations=False)
    return out


def disk_offering(store, row):
    out = {"id": row["id"], "name": row["name"], "state": "Active", "displaytext": row["text"],
           "disksize": row["gb"], "created": store.data["created"], "iscustomized": row["custom"],
           "storagetype": "shared", "provisioningtype": "thin", "displayoffering": True,
           "disksizestrictness": False, "encrypt": False, "hasannotations": False}
    if row["tags"]:
        out["tags"] = row["tags"]
    return out


def template(store, row):
    os_type = store.data["os_types"][row["os_type"]]
    return {"id": row["id"], "name": row["name"], "displaytext": row["text"], "ispublic": True,
            "created": store.data["created"], "isready": True, "passwordenabled": False, "format": "QCOW2",
            "isfeatured": True, "crossZones": True, "ostypeid": os_type["id"], "ostypename": os_type["name"],
            "account": "admin", **in_zone(store), "status": "Download Complete", "size": row["size"],
            "physicalsize": row["size"], "templatetype": "USER", "hypervisor": "KVM", "domain": "ROOT",
            "domainpath": "ROOT", "domainid": store.data["domain_id"], "isextractable": False, "checksum": "",
            "details": {}, "arch": "x86_64", "bits": 0, "sshkeyenabled": False, "isdynamicallyscalable": False,
            "directdownload": False, "deployasis": False, "forcks": False, "requireshvm": False, "tags": [],
            "hasannotations": False}


def network(store, row):
    return {"id": row["id"], "name": row["name"], "displaytext": row["name"], "broadcastdomaintype": "Vlan",
            "traffictype": "Guest", "gateway": row["gateway"], "netmask": "255.255.255.0",
            "cidr": row["prefix"] + "0/24", **in_zone(store), "issystem": False, "state": "Implemented",
            "related": row["id"], "broadcasturi": f"vlan://{row['vlan']}", "dns1": "10.147.28.6",
            "type": "Isolated", "vlan": str(row["vlan"]), "acltype": "Account", **owner(store, row["account"]),
            "service": [], "networkdomain": "cs2cloud.internal", "restartrequired": False, "specifyvlan": False,
            "specifyipranges": False, "canusefordeploy": True, "ispersistent": False, "tags": [], "details": {},
            "displaynetwork": True, "created": store.data["created"], "hasannotations": False}


def os_type(_store, row):
    return {"id": row["id"], "oscategoryid": row["category"], "oscategoryname": row["category_name"],
            "name": row["name"], "description": row["name"], "isuserdefined": False, "fordisplay": True}


def cluster(store, row):
    return {"id": row["id"], "name": row["name"], "podid": store.data["pod_id"], "podname": "POD0",
            **in_zone(store), "hypervisortype": "KVM", "clustertype": "CloudManaged",
            "allocationstate": "Enabled", "managedstate": "Managed", "cpuovercommitratio": "1.0",
            "memoryovercommitratio": "1.0", "arch": "x86_64", "hasannotations": False}


def host(store, row):
    cluster_row = store.data["clusters"][row["cluster_id"]]
    return {"id": row["id"], "name": row["name"], "state": "Up", "type": "Routing", "ipaddress": row["ip"],
            **in_zone(store), "podid": store.data["pod_id"], "podname": "POD0", "version": "4.23.0.0-SNAPSHOT",
            "hypervisor": "KVM", "cpunumber": 4, "cpuspeed": 8000, "memorytotal": 8589934592,
            "capabilities": "hvm,snapshot", "clusterid": cluster_row["id"], "clustername": cluster_row["name"],
            "clustertype": "CloudManaged", "islocalstorageactive": False, "created": store.data["created"],
            "resourcestate": "Enabled", "hahost": False, "ueficapability": True, "arch": "x86_64",
            "hasannotations": False}


def pool(store, row):
    cluster_row = store.data["clusters"][row["cluster_id"]]
    used = sum(v["size"] for v in store.data["volumes"].values() if v["pool_id"] == row["id"] and not v["removed"])
    return {"id": row["id"], **in_zone(store), "podid": store.data["pod_id"], "podname": "POD0",
            "name": row["name"], "ipaddress": "10.147.28.6", "path": "/export/" + row["name"].lower(),
            "created": store.data["created"], "type": "NetworkFilesystem", "clusterid": cluster_row["id"],
            "clustername": cluster_row["name"], "capacitybytes": 1 << 40, "disksizetotal": 1 << 40,
            "disksizeallocated": used, "disksizeused": used, "istagarule": False, "state": "Up",
            "scope": "CLUSTER", "overprovisionfactor": "2.0", "hypervisor": "KVM", "provider": "DefaultPrimary",
            "managed": False, "details": {}, "hasannotations": False, **({"tags": row["tags"]} if row["tags"] else {})}


def account(store, row):
    return {"id": row["id"], "name": row["name"], "accounttype": 1 if row["admin"] else 0,
            "domainid": store.data["domain_id"], "domain": "ROOT", "domainpath": "ROOT", "state": "enabled",
            **{f"{what}{kind}": "Unlimited" for what in ("vm", "volume", "ip", "cpu", "memory", "primarystorage")
               for kind in ("limit", "available")},
            "user": [{"id": row["user_id"], "username": row["name"], "account": row["name"]}]}
