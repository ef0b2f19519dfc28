# SPDX-License-Identifier: Apache-2.0
"""Notes when somebody starts to change a VM or a volume on which a job is still running. The real server takes such calls, in
any order it likes: not to make them is its callers' business, and what `events` of kind "overlap" accuse them of."""


def subjects(store, command, params):
    """Ids of the VMs and volumes that a job changes."""
    volume = store.data["volumes"].get(params.get("id") or "") or {}
    found = {params.get("instance"), params.get("virtualmachineid") if command == "attachVolume" else None}
    if command == "createSnapshot":
        found = {params.get("volumeid")}
    if command == "revertSnapshot":
        found = {store.data["snapshots"][params["instance"]]["volume_id"]}
    if command in ("detachVolume", "resizeVolume"):
        found.add(volume.get("vm_id"))
    if command in ("destroyVirtualMachine", "expungeVirtualMachine"):
        found.update(v["id"] for v in store.volumes_of(params["instance"]))
    return sorted(found - {None})


def check(store, command, touched):
    """Call it with the lock held, before the new job is among the others."""
    for job in store.data["jobs"].values():
        common = set(job.get("subjects", ())) & set(touched) if job["status"] == 0 else ()
        for ident in sorted(common):
            store.note("overlap", subject=ident, command=command, running=job["command"], job=job["id"])
