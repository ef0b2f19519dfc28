# SPDX-License-Identifier: Apache-2.0
"""The control endpoint, apart from the API and for loopback only.

  POST /ctl/fault  {command, action, count, match, ...}  misbehave (faults.py); a list adds several
  POST /ctl/alter  {table, name, shown: {...}}  from now on lists show these members of that row, beside or instead
                   of its own: a host without UEFI, a pool in maintenance. Nothing else changes by it
  GET  /ctl/state  the whole state, without secrets
  POST /ctl/reset  {}: forget all faults; {"all": true}: also remove every VM, volume, snapshot and job
                   that is not an appliance's own
"""
import json


def handle(cloud, method, path, body):
    """(HTTP status, JSON answer)."""
    try:
        wanted = json.loads(body) if body.strip() else {}
        if (method, path) == ("POST", "/ctl/fault"):
            return 200, {"faults": [cloud.faults.add(f) for f in (wanted if isinstance(wanted, list) else [wanted])]}
        if (method, path) == ("POST", "/ctl/alter"):
            return 200, _alter(cloud.store, wanted)
        if (method, path) == ("GET", "/ctl/state"):
            return 200, _state(cloud)
        if (method, path) == ("POST", "/ctl/reset"):
            cloud.faults.clear()
            if wanted.get("all"):
                _wipe(cloud)
            return 200, {}
    except (ValueError, AttributeError, TypeError) as error:
        return 400, {"error": str(error)}
    return 404, {"error": f"{method} {path}: unknown; see control.py"}


def _alter(store, wanted):
    with store.lock:
        rows = [row for row in store.data[wanted["table"]].values() if row["name"] == wanted["name"]]
        if not rows:
            raise ValueError(f"no {wanted['name']} in {wanted['table']}")
        for row in rows:
            row["shown"] = wanted["shown"]
        store.save()
    return {"altered": len(rows)}


def _state(cloud):
    with cloud.store.lock:
        state = json.loads(json.dumps(cloud.store.data))
    for account in state["accounts"].values():
        account.pop("apikey")
        account.pop("secret")
    state["requests"] = cloud.log.number
    return state


def _wipe(cloud):
    store = cloud.store
    with store.lock:
        if any(job["status"] == 0 for job in store.data["jobs"].values()):
            raise ValueError("jobs are running; wait for them before a reset of everything")
        keep = {i for i, vm in store.data["vms"].items() if vm.get("appliance") and not vm["removed"]}
        for volume in store.data["volumes"].values():
            if volume["vm_id"] in keep and volume["type"] != "ROOT":
                cloud.hypervisor.unplug(store.data["vms"][volume["vm_id"]], volume)
        for volume in list(store.data["volumes"].values()):
            if not (volume["vm_id"] in keep and volume["type"] == "ROOT"):
                store.remove_volume(volume)
                del store.data["volumes"][volume["id"]]
        for ident in [i for i in store.data["vms"] if i not in keep]:
            cloud.hypervisor.forget(store.data["vms"].pop(ident))
        cloud.hypervisor.held.clear()
        store.forget_jobs()
        for table in ("snapshots", "vm_snapshots"):
            store.data[table].clear()
        store.data["events"].clear()
        store.save()
