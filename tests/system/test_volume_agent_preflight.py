# SPDX-License-Identifier: Apache-2.0
"""Preflight of a target: the agent asks CloudStack for the facts and says what stands against a VM there, before anything is made.
Rules are tested one by one in tests/unit/core/test_preflight_target.c; here is what of CloudStack's answers they get to see."""
import json
import os
import re
import signal
import subprocess
import uuid
from pathlib import Path

import pytest

import messages as pb
from lib_agent import AGENT, BIN, GIB
from lib_rest import TOKENS, Bench, problem
from lib_vcsim import disk, vm

ROOT = Path(__file__).resolve().parents[2]
EVERYWHERE = [("pools", f"PS{n}") for n in range(4)]


@pytest.fixture(scope="module")
def bench(kafka, tmp_path_factory):
    bench = Bench(kafka, tmp_path_factory.mktemp("preflight"))
    yield bench
    bench.close()


@pytest.fixture
def alter(bench):
    """alter(table, name, member=value): what lists show from now on, until the test ends."""
    changed = []

    def change(table, name, **shown):
        changed.append((table, name))
        bench.cloud.control("alter", {"table": table, "name": name, "shown": shown})
    yield change
    for table, name in changed:
        bench.cloud.control("alter", {"table": table, "name": name, "shown": {}})


def request(**more):
    return {"name": "web", "disks": [{"disk_id": "disk0", "size_bytes": 10 * GIB}], "networks": ["migration-net"], **more}


def look(bench, **more):
    """{code without DRV-TARGET-: severity}; nothing may have been changed by it."""
    before = len(bench.cloud.requests())
    answer = bench.rest.post("/preflight", request(**more), token=TOKENS["reader"][1])
    assert answer.status == 200, answer
    made = [r["command"] for r in bench.cloud.requests()[before:]]
    assert made and all(c.startswith(("list", "query")) for c in made), made
    found = {f["code"].removeprefix("DRV-TARGET-"): f["severity"] for f in answer.json["findings"]}
    assert answer.json["go"] == ("error" not in found.values())
    return found


def test_a_good_target(bench):
    assert look(bench) == {}
    assert look(bench, volumes_only=True) == {}
    assert look(bench, account="tenant", networks=["tenant-net"]) == {}
    team = next(iter(bench.cloud.state()["projects"]))
    assert look(bench, project_id=team, networks=["team-net"]) == {}
    assert look(bench, service_offering="Custom Instance", cpus=2, cpu_mhz=1000, memory_mib=2048) == {}
    assert look(bench, boot_type="UEFI", firmware="efi", os_type="Debian GNU/Linux 12 (64-bit)") == {}
    assert look(bench, nics=[{"mac": "00:50:56:aa:00:01", "ip": "10.1.1.200", "keep": True}]) == {}


@pytest.mark.parametrize("more,expected", [
    ({"zone": "atlantis"}, {"ZONE": "error"}),
    ({"name": "1web"}, {"NAME": "error"}),
    ({"template": "gone"}, {"TEMPLATE": "error"}),
    ({"service_offering": "gone"}, {"SERVICE-OFFERING": "error"}),
    ({"service_offering": "Custom Instance"}, {"OFFERING-CUSTOM": "error"}),
    ({"service_offering": "Huge"}, {"OFFERING-SIZE": "error"}),
    ({"disks": [{"disk_id": "a", "size_bytes": GIB, "disk_offering": "gone"}]}, {"DISK-OFFERING": "error"}),
    ({"disks": [{"disk_id": "a", "size_bytes": 6 * GIB, "disk_offering": "Small 5GB"}]}, {"TOO-SMALL": "error"}),
    ({"disks": [{"disk_id": "a", "size_bytes": 1025 * GIB}]}, {"SIZE": "error"}),
    ({"disks": [{"disk_id": "a", "size_bytes": GIB, "disk_offering": "Custom SSD"}]}, {"POOL": "error"}),
    ({"networks": ["gone"]}, {"NETWORK": "error"}),
    ({"account": "tenant"}, {"NETWORK-OWNER": "error"}),
    ({"account": "nobody"}, {"ACCOUNT": "error"}),
    ({"project_id": str(uuid.uuid4()), "networks": []}, {"ACCOUNT": "error"}),
    ({"os_type": "Debian 12"}, {"OS-TYPE": "error"}),
    ({"guest_id": "debian12_64Guest"}, {"OS-TYPE-OTHER": "warning"}),
    ({"boot_type": "UEFI", "boot_mode": "SECURE"}, {"SECURE-BOOT": "warning"}),
    ({"boot_mode": "SECURE"}, {"BOOT": "error"}),
    ({"firmware": "efi"}, {"FIRMWARE": "error"}),
    ({"nics": [{}, {"mac": "00:50:56:aa:00:01"}]}, {"NICS": "warning"}),
    ({"nics": [{"ip": "10.9.9.9", "keep": True}]}, {"IP": "error"}),
], ids=lambda v: ",".join(v) if isinstance(v, dict) else None)
def test_what_the_job_asks_for(bench, more, expected):
    assert look(bench, **more) == expected


@pytest.mark.parametrize("rows,shown,more,expected", [
    (EVERYWHERE, {"state": "Maintenance"}, {}, {"POOL": "error"}),
    (EVERYWHERE, {"scope": "HOST"}, {}, {"POOL": "error"}),
    (EVERYWHERE, {"managed": True}, {}, {"POOL-MANAGED": "error"}),
    (EVERYWHERE, {"managed": True}, {"volumes_only": True}, {}),
    (EVERYWHERE, {"disksizeallocated": 2040 * GIB}, {}, {"POOL-SPACE": "error"}),
    (EVERYWHERE, {"disksizeallocated": 2000 * GIB}, {}, {"POOL-SPACE": "warning"}),
    (EVERYWHERE[:2], {"state": "Maintenance"}, {}, {"PLACEMENT": "error"}),
    ([("hosts", f"kvm{n}") for n in (1, 2, 3, 4)], {"resourcestate": "Maintenance"}, {}, {"HOSTS": "error"}),
    ([("hosts", f"kvm{n}") for n in (1, 2)], {"state": "Down"}, {}, {"PLACEMENT": "error"}),
    ([("hosts", f"kvm{n}") for n in (1, 2, 3, 4)], {"ueficapability": False}, {"boot_type": "UEFI"}, {"UEFI": "error"}),
    ([("hosts", f"kvm{n}") for n in (1, 2)], {"ueficapability": False}, {"boot_type": "UEFI"}, {"PLACEMENT": "error"}),
    ([("service_offerings", "Small Instance")], {"hosttags": "gpu"}, {"service_offering": "Small Instance"}, {"HOSTS": "error"}),
    ([("templates", "blank-linux")], {"isready": False}, {"template": "blank-linux"}, {"TEMPLATE-STATE": "error"}),
    ([("templates", "blank-linux")], {"hypervisor": "VMware"}, {}, {"TEMPLATE-HYPERVISOR": "error"}),
    ([("disk_offerings", "Custom")], {"storagetype": "local"}, {}, {"POOL-LOCAL": "error"}),
    ([("disk_offerings", "Large")], {"iscustomizediops": True},
     {"disks": [{"disk_id": "a", "size_bytes": GIB, "disk_offering": "Large"}]}, {"DISK-IOPS": "error"}),
    ([("networks", "migration-net")], {"canusefordeploy": False}, {}, {"NETWORK-STATE": "error"}),
    ([("accounts", "admin")], {"volumeavailable": "1"}, {}, {"QUOTA": "error"}),
    ([("accounts", "admin")], {"primarystorageavailable": 9}, {"volumes_only": True}, {"QUOTA": "error"}),
    ([("accounts", "tenant")], {"vmavailable": "0"}, {"account": "tenant", "networks": ["tenant-net"]}, {"QUOTA": "error"}),
    ([("projects", "team")], {"memoryavailable": "100"}, {"project_id": "team", "networks": ["team-net"]}, {"QUOTA": "error"}),
], ids=lambda v: ",".join(v) if isinstance(v, dict) else None)
def test_what_the_cloud_is_like(bench, alter, rows, shown, more, expected):
    for table, name in rows:
        alter(table, name, **shown)
    if more.get("project_id") == "team":
        more = {**more, "project_id": next(iter(bench.cloud.state()["projects"]))}
    assert look(bench, **more) == expected


def test_names_and_addresses_that_are_taken(bench):
    site, name = bench.site, f"taken-{uuid.uuid4().hex[:6]}"
    vm = bench.cloud.do("deployVirtualMachine", site.deploy_params(name=name))
    nic = vm["nic"][0]
    assert look(bench, name=name.upper()) == {"NAME-TAKEN": "error"}
    assert look(bench, name=name, networks=["second-net"]) == {}
    assert look(bench, name=name + "x") == {}
    card = {"mac": nic["macaddress"].upper(), "ip": nic["ipaddress"]}
    assert look(bench, nics=[card]) == {"MAC": "warning", "IP": "warning"}
    assert look(bench, nics=[{**card, "keep": True}]) == {"MAC": "error", "IP": "error"}
    bench.cloud.do("destroyVirtualMachine", id=vm["id"], expunge="true")
    assert look(bench, name=name, nics=[{**card, "keep": True}]) == {}


def test_what_would_move_data(bench, alter):
    """Volumes that exist on storage of another cluster, and a VM that runs there."""
    site = bench.site
    here, there = site.volume(gb=10, storageid=site.pools["PS0"]["id"]), site.volume(gb=10, storageid=site.pools["PS2"]["id"])

    def disks(volume, gb=10):
        return [{"disk_id": "disk0", "size_bytes": gb * GIB, "volume_id": volume}]
    assert look(bench, disks=disks(here)) == {}
    assert look(bench, disks=disks(here, gb=11)) == {"TOO-SMALL": "error"}
    assert look(bench, disks=disks(there)) == {"PLACEMENT": "error"}
    alter("pools", "PS2", scope="ZONE")
    assert look(bench, disks=disks(there)) == {}

    vm = site.vm()
    assert look(bench, vm_id=vm) == {}
    host = next(h["id"] for h in bench.cloud.call("listHosts")["host"] if h["clustername"] == "C1")
    bench.cloud.do("startVirtualMachine", id=vm, hostid=host)
    assert look(bench, vm_id=vm) == {"PLACEMENT": "error"}
    bench.cloud.do("stopVirtualMachine", id=vm)  # now its root disk lies there
    assert look(bench, vm_id=vm) == {"PLACEMENT": "error"}

    unknown = str(uuid.uuid4())
    problem(bench.rest.post("/preflight", request(vm_id=unknown)), 404, "DRV-VM-MISSING")
    problem(bench.rest.post("/preflight", request(disks=disks(unknown))), 404, "DRV-VOLUME-MISSING")


def test_the_agent_itself_moves_no_data(bench, alter):
    """Whoever asks: a volume that lies elsewhere is not attached to the appliance."""
    site = bench.site
    here, there = site.volume(storageid=site.pools["PS1"]["id"]), site.volume(storageid=site.pools["PS3"]["id"])

    def attach(volume):
        record = bench.rest.post(f"/volumes/{volume}/attach", wait="30s").json
        return record["state"] if record["state"] == "done" else record["error"]["code"]
    assert attach(there) == "DRV-TARGET-PLACEMENT"
    alter("pools", "PS3", scope="HOST")
    assert attach(there) == "DRV-TARGET-POOL-LOCAL"
    assert there not in [r["params"].get("id") for r in bench.cloud.requests("attachVolume")]
    assert attach(here) == "done"
    bench.rest.done("POST", f"/volumes/{here}/detach")
    alter("pools", "PS1", scope="HOST")
    bench.cloud.fault("listStoragePools", "error", code=432, text="not today")
    assert attach(here) == "done", "nobody can tell"
    alter("pools", "PS3", scope="ZONE")
    assert attach(there) == "done"
    for volume in (here, there):
        bench.rest.done("POST", f"/volumes/{volume}/detach")


def test_requests_that_are_not_understood(bench):
    for body, field in [({"disks": []}, "name"), ({"name": "x"}, "disks"), (request(disks={}), "disks"), (request(disks=[1]), "disks"),
                        (request(disks=[{"disk_id": "a"}]), "size_bytes"), (request(disks=[{"disk_id": "a", "size_bytes": 0}]), "size_bytes"),
                        (request(networks=[""]), "networks"), (request(networks=["n"] * 17), "networks"),
                        (request(nics=[{"mtu": 9000}]), "mtu"), (request(volumes_only=1), "volumes_only")]:
        problem(bench.rest.post("/preflight", body), 400, "DRV-REST-REQUEST", field)


def test_an_account_without_rights(kafka, tmp_path):
    """The keys of an ordinary user: what is missing is named, what cannot be seen is not judged."""
    bench = Bench(kafka, tmp_path, cloudstack_key_file=tmp_path / "cloud/user.key")
    try:
        answer = bench.rest.post("/preflight", request(networks=["gone"]))
        assert [(f["severity"], f["code"]) for f in answer.json["findings"]] == [
            ("error", "DRV-TARGET-RIGHTS"), ("error", "DRV-TARGET-APPLIANCE"), ("warning", "DRV-TARGET-UNSEEN")]
        assert "may not call: assignVolume." in answer.json["findings"][0]["message"]
    finally:
        bench.close()


def test_calls_that_a_role_need_not_allow(bench):
    """What only a preflight asks may be refused: then nobody can tell. Bounds as on 4.23, whose listCapabilities fails."""
    large = [{"disk_id": "a", "size_bytes": 1500 * GIB}]
    refusals = {"listStoragePools": (432, {}, {"UNSEEN": "warning"}), "listHosts": (432, {}, {"UNSEEN": "warning"}),
                "listCapabilities": (431, {"disks": large}, {}), "listConfigurations": (432, {}, {}),
                "listOsTypes": (432, {"os_type": "none"}, {}),
                "listProjects": (432, {"project_id": next(iter(bench.cloud.state()["projects"])), "networks": ["team-net"]}, {})}
    for command, (code, more, expected) in refusals.items():
        bench.cloud.fault(command, "error", code=code, text="not today")
        try:
            assert look(bench, **more) == expected, command
        finally:
            bench.cloud.control("reset", {})


def test_a_cloud_that_does_not_answer(bench):
    bench.cloud.fault("listTemplates", "http", count=100, status=503)
    answer = bench.rest.post("/preflight", request())
    problem(answer, 503)
    assert answer.headers["Retry-After"]
    operation = bench.leader.operation("preflight_target", disk="", name="web", target=pb.job.TargetSpec(network_ids=["migration-net"]))
    bench.leader.wait("drover.fleet", lambda _: any(line.get("event") == "operation.retry" for line in bench.agent.lines()), 30,
                      "a second attempt")
    bench.cloud.control("reset", {})
    assert bench.leader.ended(operation).state == pb.operation.OPERATION_STATE_DONE


def test_as_an_operation(bench):
    """What the leader and the CLI send: errors fail it, and all findings lie in the journal."""
    leader, before = bench.leader, len(bench.cloud.requests())
    target = pb.job.TargetSpec(network_ids=["migration-net"])
    disk = pb.operation.PreflightDisk(disk_id="disk0", size_bytes=GIB, disk_key=2000)
    done = leader.ended(leader.operation("preflight_target", disk="", name="web", target=target, disks=[disk]))
    assert done.state == pb.operation.OPERATION_STATE_DONE and not done.result.findings
    target.template_id, disk.disk_offering = "gone", "Small 5GB"
    disk.size_bytes = 6 * GIB
    operation = leader.operation("preflight_target", disk="", name="web", target=target, disks=[disk], firmware="bios",
                                 guest_id="solaris11_64Guest")
    record = leader.ended(operation)
    assert record.state == pb.operation.OPERATION_STATE_FAILED and record.error.code == "DRV-TARGET-TOO-SMALL", record
    assert [(f.severity, f.code, f.disk_key) for f in record.result.findings] == [
        ("error", "DRV-TARGET-TOO-SMALL", 2000), ("error", "DRV-TARGET-TEMPLATE", 0), ("warning", "DRV-TARGET-OS-TYPE-OTHER", 0)]
    shown = bench.rest.get(f"/operations/{operation.replace('/', '%2F')}").json
    assert (shown["kind"], shown["state"], shown["error"]["code"]) == ("preflight-target", "failed", "DRV-TARGET-TOO-SMALL")
    assert [f["code"] for f in shown["result"]["findings"]] == [f.code for f in record.result.findings]
    assert not [r for r in bench.cloud.requests()[before:] if not r["command"].startswith(("list", "query"))]


# ---- the command line -----------------------------------------------------------------------------------------------

def drover(bench, *args, code=0):
    done = subprocess.run([BIN / "drover", *args, "--kafka-brokers", bench.leader.broker, "--kafka-topic-prefix", bench.leader.prefix,
                           "--fleet-agents", AGENT], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    assert done.returncode == code, done
    return done


def test_a_job_file_is_checked_before_it_is_submitted(bench, tmp_path):
    (tmp_path / "disk.raw").write_bytes(b"")
    os.truncate(tmp_path / "disk.raw", 6 * GIB)
    job = tmp_path / "job.yaml"
    job.write_text(f"name: web\ndisks:\n  - source: file:{tmp_path}/disk.raw,format=raw\n    offering: Custom\ntarget:\n  networks: [migration-net]\n")
    assert drover(bench, "preflight", "--job", str(job)).stdout == "web: go\n"
    job.write_text(job.read_text().replace("Custom", "Small 5GB") + "  boot_type: UEFI\n  os_type: none\n")
    text = drover(bench, "preflight", "--job", str(job), "--agent", AGENT, "--volumes-only", code=5).stdout
    assert "OS-TYPE" not in text
    text = drover(bench, "preflight", "--job", str(job), "--agent", AGENT, code=5).stdout
    assert text.startswith("error   DRV-TARGET-TOO-SMALL: disk disk0 needs 6 GiB") and text.endswith("\n\nweb: no-go\n")
    found = json.loads(drover(bench, "preflight", "--job", str(job), "--json", code=5).stdout)
    assert [(f["severity"], f["code"]) for f in found] == [("error", "DRV-TARGET-TOO-SMALL"), ("error", "DRV-TARGET-OS-TYPE")]
    assert "Name a VM, or a job file" in drover(bench, "preflight", code=2).stderr
    assert "no agent 'ghost'" in drover(bench, "preflight", "--job", str(job), "--agent", "ghost", code=5).stderr


def test_source_and_target_of_a_vm_at_once(bench, make_vcsim):
    vcsim = make_vcsim([vm("web01", disks=[disk("1G")], firmware="efi")])
    text = drover(bench, "preflight", "web01", "--agent", AGENT, "--vcenters", str(vcsim.vcenters), code=5).stdout
    assert "DRV-TARGET-FIRMWARE: the source boots by EFI" in text and text.endswith("web01: no-go\n"), text


def test_an_agent_that_does_not_answer(bench, tmp_path):
    job = tmp_path / "job.yaml"
    job.write_text("name: web\ndisks:\n  - source: nbd://127.0.0.1:1/x\n    target_size: 1G\n")
    bench.agent.process.send_signal(signal.SIGSTOP)
    try:
        said = drover(bench, "preflight", "--job", str(job), "--timeout", "2s", code=3).stderr
    finally:
        bench.agent.process.send_signal(signal.SIGCONT)
    assert "DRV-AGENT-SILENT: volume agent appliance did not answer in time" in said
    assert drover(bench, "preflight", "--job", str(job)).stdout == "web: go\n"


def test_the_calls_that_need_rights_are_those_that_are_made():
    """calls.inc against the sources; those of a preflight alone are no right that a migration needs."""
    only_looked_at = {"listApis", "listCapabilities", "listConfigurations", "listHosts", "listProjects", "listStoragePools"}
    verbs = "list|query|assign|attach|create|delete|deploy|destroy|detach|expunge|migrate|recover|resize|revert|start|stop|update"
    made = set()
    for source in (ROOT / "volume-agent").rglob("*.c"):
        made |= set(re.findall(rf'"((?:{verbs})[A-Z][A-Za-z]+)"', source.read_text()))
    listed = set(re.findall(r'"(\w+)"', (ROOT / "volume-agent/preflight/calls.inc").read_text()))
    assert len(made) > 20 and made - only_looked_at <= listed
    told = set(re.findall(r"`([a-z]+[A-Z]\w+)`", (ROOT / "docs/cloudstack.md").read_text()))
    assert listed | only_looked_at <= told


def test_every_finding_is_documented():
    codes = set()
    for source in (ROOT / "core/preflight").glob("target*.c"):
        codes |= set(re.findall(r'"(DRV-TARGET-[A-Z-]+)"', source.read_text()))
    table = (ROOT / "docs/cloudstack.md").read_text()
    assert len(codes) > 30
    assert {c for c in codes if f"| `{c}` |" not in table} == set()
