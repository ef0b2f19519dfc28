# SPDX-License-Identifier: Apache-2.0
"""Listing what the cloud offers, and jobs."""
import re

import errors
import views
from commands import PAGING, TABLE, command, is_project, matching, page


def _table(cloud, args, table, key, view, keep=lambda row: True):
    rows = [r for r in cloud.store.data[table].values() if keep(r) and (not args["id"] or r["id"] == args["id"]["id"])]
    return page([{**view(cloud.store, r), **r.get("shown", {})} for r in matching(rows, args)], args, key)


@command("listZones", "id:uuid:zones", "name", "available:boolean", *PAGING)
def list_zones(cloud, account, args):
    return _table(cloud, args, "zones", "zone", lambda s, r: views.zone(s, r, account["admin"]))


@command("listServiceOfferings", "id:uuid:service_offerings", "name", *PAGING)
def list_service_offerings(cloud, account, args):
    return _table(cloud, args, "service_offerings", "serviceoffering", views.service_offering)


@command("listDiskOfferings", "id:uuid:disk_offerings", "name", *PAGING)
def list_disk_offerings(cloud, account, args):
    return _table(cloud, args, "disk_offerings", "diskoffering", views.disk_offering)


@command("listTemplates", "id:uuid:templates", "templatefilter*", "name", "zoneid:uuid:zones", *PAGING)
def list_templates(cloud, account, args):
    known = {"featured", "self", "selfexecutable", "sharedexecutable", "executable", "community", "all"}
    if args["templatefilter"].lower() not in known:
        raise errors.invalid("Please specify a valid template filter.")
    return _table(cloud, args, "templates", "template", views.template)


@command("listNetworks", "id:uuid:networks", "name", "zoneid:uuid:zones", "projectid:uuid:projects", *PAGING)
def list_networks(cloud, account, args):
    def visible(row):
        if args["projectid"] or is_project(row["account"]):
            return args["id"] or args["projectid"] and row["account"] == args["projectid"]["account"]
        return row["account"] == account["name"] or account["admin"] and bool(args["listall"] or args["id"])
    return _table(cloud, args, "networks", "network", views.network, visible)


@command("listOsTypes", "id:uuid:os_types", "oscategoryid", "description", *PAGING)
def list_os_types(cloud, account, args):
    def described(row):
        return (not args["description"] or row["name"] == args["description"]) and \
            (not args["oscategoryid"] or row["category"] == args["oscategoryid"])
    return _table(cloud, args, "os_types", "ostype", views.os_type, described)


@command("listHosts", "id:uuid:hosts", "name", "type", "zoneid:uuid:zones", "clusterid:uuid:clusters", *PAGING,
         admin=True)
def list_hosts(cloud, account, args):
    def wanted(row):
        return (not args["type"] or args["type"].lower() == "routing") and \
            (not args["clusterid"] or row["cluster_id"] == args["clusterid"]["id"])
    return _table(cloud, args, "hosts", "host", views.host, wanted)


@command("listClusters", "id:uuid:clusters", "name", "zoneid:uuid:zones", *PAGING, admin=True)
def list_clusters(cloud, account, args):
    return _table(cloud, args, "clusters", "cluster", views.cluster)


@command("listStoragePools", "id:uuid:pools", "name", "zoneid:uuid:zones", "clusterid:uuid:clusters", *PAGING,
         admin=True)
def list_pools(cloud, account, args):
    def wanted(row):
        return not args["clusterid"] or row["cluster_id"] == args["clusterid"]["id"]
    return _table(cloud, args, "pools", "storagepool", views.pool, wanted)


@command("listHypervisors", "zoneid:uuid:zones", "hypervisor")
def list_hypervisors(cloud, account, args):
    return {"count": 1, "hypervisor": [{"name": "KVM"}]}


@command("listAccounts", "id:uuid:accounts", "name", "domainid", *PAGING)
def list_accounts(cloud, account, args):
    rows = [a for a in cloud.store.data["accounts"].values()
            if not is_project(a["name"]) and (account["admin"] and (args["listall"] or args["id"] or args["name"]) or a is account)
            and (not args["domainid"] or args["domainid"] == cloud.store.data["domain_id"]) and (not args["id"] or a["id"] == args["id"]["id"])]
    return page([{**views.account(cloud.store, r), **r.get("shown", {})} for r in matching(rows, args)], args, "account")


@command("listProjects", "id:uuid:projects", "name", *PAGING)
def list_projects(cloud, account, args):
    limits = {f"{what}{kind}": "Unlimited" for what in ("vm", "volume", "ip", "cpu", "memory", "primarystorage")
              for kind in ("limit", "available")}
    return _table(cloud, args, "projects", "project",
                  lambda s, r: {"id": r["id"], "name": r["name"], "domainid": s.data["domain_id"], "state": "Active", **limits})


@command("listConfigurations", "name", *PAGING, admin=True)
def list_configurations(cloud, account, args):
    """The one that matters here [465]."""
    rows = [{"category": "Storage", "name": "storage.max.volume.size", "value": "2000", "defaultvalue": "2000",
             "description": "The largest size of a volume, in GiB", "isdynamic": True, "type": "Number"}]
    return page([row for row in rows if not args["name"] or row["name"] == args["name"]], args, "configuration")


@command("listCapabilities")
def list_capabilities(cloud, account, args):
    return {"capability": {
        "securitygroupsenabled": False, "dynamicrolesenabled": True, "cloudstackversion": "4.23.0.0-SNAPSHOT",
        "userpublictemplateenabled": True, "supportELB": "false", "projectinviterequired": False,
        "allowusercreateprojects": True, "customdiskofferingminsize": 1, "customdiskofferingmaxsize": 1024,
        "regionsecondaryenabled": False, "kvmsnapshotenabled": True, "allowuserviewdestroyedvm": False,
        "allowuserexpungerecovervm": False, "allowuserexpungerecovervolume": False,
        "defaultuipagesize": 20, "apilimitmax": 25, "apilimitinterval": 1}}


@command("listApis", "name")
def list_apis(cloud, account, args):
    def describe(cmd):
        def type_of(kind):
            return {"uuids": "list"}.get(kind.partition(":")[0], kind.partition(":")[0])
        params = [{"name": name, "description": "", "type": type_of(kind), "length": 255, "required": required}
                  for name, kind, required in cmd.params]
        return {"name": cmd.name, "description": cmd.description or cmd.name, "isasync": cmd.is_async,
                "related": "", "params": params, "response": [],
                "httprequesttype": "GET" if cmd.reads else "POST"}
    visible = [c for c in TABLE.values() if account["admin"] or not c.admin]
    if args["name"]:
        visible = [c for c in visible if c.name.lower() == args["name"].lower()]
        if not visible:
            raise errors.parameter(f"The API [{args['name']}] does not exist or is not available for the "
                                   f"account {account['name']}.")
    return {"count": len(visible), "api": [describe(c) for c in visible]}


@command("queryAsyncJobResult", "jobid", "resourcetype", "resourceid")
def query_job(cloud, account, args):
    jobs = cloud.store.data["jobs"]
    if args["jobid"]:
        job = jobs.get(args["jobid"])
        if job is None or job["vanished"]:
            raise errors.bad_entity("queryAsyncJobResult", "jobid", args["jobid"])
    elif args["resourcetype"] and args["resourceid"]:
        of_it = [j for j in jobs.values() if j["instance_id"] == args["resourceid"] and not j["vanished"]
                 and (j["instance_type"] or "").lower() == args["resourcetype"].lower()]
        if not of_it:
            raise errors.invalid("Unable to find job by resource type and id")
        job = max(of_it, key=lambda j: j["number"])
    else:
        raise errors.invalid("Expected parameter job id or parameters resource type and resource id")
    if not account["admin"] and job["account"] != account["name"]:
        raise errors.permission(
            f'Account Account [{{"accountName":"{account["name"]}","id":{account["number"]},'
            f'"uuid":"{account["id"]}"}}] is not authorized to see job id={job["number"]}')
    return views.job(cloud.store, job)


@command("listAsyncJobs", "startdate", *PAGING)
def list_jobs(cloud, account, args):
    """Only jobs that still run, as the real one by default."""
    if args["startdate"] and not re.match(r"\d{4}-\d\d-\d\d", args["startdate"]):
        raise errors.parameter("Unable to parse date " + args["startdate"] + " for command listAsyncJobs, please "
                               "pass dates in the format mentioned in the api documentation")
    rows = [j for j in cloud.store.data["jobs"].values() if j["status"] == 0 and not j["vanished"]
            and (j["account"] == account["name"] or account["admin"] and args["listall"])]
    return page([views.job(cloud.store, j) for j in rows], args, "asyncjobs")
