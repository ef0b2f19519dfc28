# SPDX-License-Identifier: Apache-2.0
"""The cloud on its first day: one zone, two clusters, offerings, one template, one network, two accounts.

Ids are random at each first start, so that nobody can hard-code one: find them by name over the API.
"""
import time
import uuid

OS_TYPES = [
    ("Other", "Other (32-bit)"), ("Other", "Other (64-bit)"), ("Other", "Other PV (64-bit)"),
    ("Other", "Other PV Virtio-SCSI (64-bit)"),
    ("Debian", "Debian GNU/Linux 11 (64-bit)"), ("Debian", "Debian GNU/Linux 12 (32-bit)"),
    ("Debian", "Debian GNU/Linux 12 (64-bit)"), ("Ubuntu", "Ubuntu 20.04 LTS"), ("Ubuntu", "Ubuntu 22.04 LTS"),
    ("RedHat", "Red Hat Enterprise Linux 8.x"), ("RedHat", "Red Hat Enterprise Linux 9"),
    ("CentOS", "CentOS 7.2"), ("CentOS", "CentOS 5.6 (64-bit)"), ("Rocky Linux", "Rocky Linux 9"),
    ("Windows", "Windows 10 (64-bit)"), ("Windows", "Windows Server 2016 (64-bit)"),
    ("Windows", "Windows Server 2019 (64-bit)"), ("Windows", "Windows Server 2022 (64-bit)"),
    ("Windows", "Windows PV"),
]


def _rows(rows):
    table = {}
    for number, row in enumerate(rows, 1):
        row = {"id": str(uuid.uuid4()), "number": number, **row}
        table[row["id"]] = row
    return table


def cloud(options):
    """The whole first state; `options` are the server's command line."""
    created = time.strftime("%Y-%m-%dT%H:%M:%S+0000", time.gmtime())
    zone = _rows([{"name": "zone1"}])
    zone_id = next(iter(zone))
    clusters = _rows([{"name": "C0"}, {"name": "C1"}])
    c0, c1 = clusters
    hosts = _rows([{"name": f"kvm{n}", "cluster_id": c, "ip": f"172.16.15.{10 + n}"}
                   for n, c in enumerate((c0, c0, c1, c1), 1)])
    pools = _rows([{"name": f"PS{n}", "cluster_id": c, "tags": ""} for n, c in enumerate((c0, c0, c1, c1))])
    os_categories = {}
    os_types = _rows([{"category": os_categories.setdefault(c, str(uuid.uuid4())), "category_name": c, "name": n}
                      for c, n in OS_TYPES])
    other64 = next(i for i, row in os_types.items() if row["name"] == "Other (64-bit)")
    disk = _rows([
        {"name": "Small 5GB", "text": "Small Disk, 5 GB", "gb": 5, "custom": False, "tags": None},
        {"name": "Medium", "text": "Medium Disk, 20 GB", "gb": 20, "custom": False, "tags": None},
        {"name": "Large", "text": "Large Disk, 100 GB", "gb": 100, "custom": False, "tags": None},
        {"name": "Custom", "text": "Custom Disk", "gb": 0, "custom": True, "tags": None},
        {"name": "Custom SSD", "text": "Custom Disk on tagged storage", "gb": 0, "custom": True, "tags": "ssd"},
    ])
    service = _rows([
        {"name": "Small Instance", "cpu": 1, "mhz": 500, "mb": 512, "custom": False},
        {"name": "Medium Instance", "cpu": 1, "mhz": 1000, "mb": 1024, "custom": False},
        {"name": "Custom Instance", "cpu": None, "mhz": None, "mb": None, "custom": True},
        {"name": "Huge", "cpu": 512, "mhz": 5000, "mb": 5120000, "custom": False},
    ])
    templates = _rows([{"name": "blank-linux", "text": "A small Linux to be replaced", "os_type": other64,
                        "size": options.template_mib << 20}])
    networks = _rows([
        {"name": "migration-net", "gateway": "10.1.1.1", "prefix": "10.1.1.", "vlan": 164, "account": "admin"},
        {"name": "second-net", "gateway": "10.1.2.1", "prefix": "10.1.2.", "vlan": 165, "account": "admin"},
        {"name": "tenant-net", "gateway": "10.1.3.1", "prefix": "10.1.3.", "vlan": 166, "account": "tenant"},
        {"name": "team-net", "gateway": "10.1.4.1", "prefix": "10.1.4.", "vlan": 167, "account": "PrjAcct-team-1"},
    ])
    accounts = {
        name: {"id": str(uuid.uuid4()), "number": number, "name": name, "user_id": str(uuid.uuid4()),
               "admin": admin, "keyfile": keyfile}
        for number, name, admin, keyfile in ((2, "admin", True, "admin.key"), (3, "tenant", False, "user.key"),
                                             (4, "PrjAcct-team-1", False, None))}  # a project's account: nobody logs in
    projects = _rows([{"name": "team", "account": "PrjAcct-team-1"}])
    return {
        "format": 1, "created": created, "domain_id": str(uuid.uuid4()), "pod_id": str(uuid.uuid4()),
        "ms_id": str(uuid.uuid4()), "zone_id": zone_id, "numbers": {"mac": 0}, "accounts": accounts, "projects": projects,
        "zones": zone, "clusters": clusters, "hosts": hosts, "pools": pools, "os_types": os_types,
        "disk_offerings": disk, "service_offerings": service, "templates": templates, "networks": networks,
        "volumes": {}, "vms": {}, "snapshots": {}, "vm_snapshots": {}, "jobs": {}, "events": [], "faults": [],
    }
