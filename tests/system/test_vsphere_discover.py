# SPDX-License-Identifier: Apache-2.0
"""drover discover, cbt-status, preflight and assess against a vCenter stand-in; the job files they write are accepted."""

import csv
import io
import json
import os
import re
import subprocess

import pytest

import fleet as fleet_module
from fleet import ROOT
from lib_vcsim import disk, vm
from test_aggregator import make, pb  # noqa: F401 (fixtures)
from test_cli import commands

DROVER = os.path.join(os.environ.get("DROVER_BIN") or ROOT / "build/release/bin", "drover")
GIB = 1 << 30


def inventory():
    """One of each kind that planning must tell apart."""
    return [
        vm("web01", disks=[disk("40G", thin=True), disk("10G")], cpus=4, memory_mb=8192, tracking=True,
           nics=[{"mac": "00:50:56:aa:00:01", "network": "VM Network", "addresses": ["192.0.2.7", "2001:db8::7"]}]),
        vm("Win DB", disks=[disk("100G")], guest_id="windows2019srv_64Guest", guest_family="windowsGuest", firmware="efi",
           secure_boot=True),
        vm("cluster", disks=[disk("8G"), disk("8G", sharing="sharingMultiWriter")]),
        vm("legacy", disks=[disk("8G", mode="independent_persistent")], version="vmx-04", guest_id="rhel4Guest"),
        vm("snapped", disks=[disk("4G")], snapshots=["before upgrade"]),
        vm("tracked", disks=[disk("4G")], snapshots=["before upgrade"], tracking=True),
        vm("lun", disks=[disk("4G", rdm=True)]),
        vm("secret", disks=[disk("4G", encrypted=True)], encrypted=True),
        vm("asleep", disks=[disk("4G")], power="suspended"),
        vm("gold", disks=[disk("4G")], template=True, power="off"),
        vm("lockstep", disks=[disk("4G")], fault_tolerant=True),
        vm("gpu", disks=[disk("4G")], pci_passthrough=True),
        vm("sealed", disks=[disk("4G")], vtpm=True, firmware="efi"),
        vm("lost", disks=[disk("4G")], connection="disconnected"),
        vm("mute", disks=[disk("4G")], tools="guestToolsNotRunning"),
    ]


# What stops or warns, by VM; for every other VM: nothing.
EXPECTED = {
    "Win DB": {"go": True, "codes": {"DRV-SOURCE-SECURE-BOOT", "DRV-GUEST-BITLOCKER", "DRV-GUEST-HIBERNATION",
                                     "DRV-GUEST-DYNAMIC-DISKS"}},
    "cluster": {"go": False, "codes": {"DRV-SOURCE-DISK-SHARED", "DRV-GUEST-CLUSTER"}},
    "legacy": {"go": False, "codes": {"DRV-SOURCE-HARDWARE", "DRV-SOURCE-DISK-INDEPENDENT", "DRV-GUEST-OLD"}},
    "snapped": {"go": False, "codes": {"DRV-SOURCE-CBT-SNAPSHOTS"}},
    "tracked": {"go": True, "codes": {"DRV-SOURCE-SNAPSHOTS"}},
    "lun": {"go": False, "codes": {"DRV-SOURCE-DISK-RDM"}},
    "secret": {"go": False, "codes": {"DRV-SOURCE-DISK-ENCRYPTED"}},
    "asleep": {"go": False, "codes": {"DRV-SOURCE-SUSPENDED"}},
    "gold": {"go": False, "codes": {"DRV-SOURCE-TEMPLATE"}},
    "lockstep": {"go": False, "codes": {"DRV-SOURCE-FAULT-TOLERANT"}},
    "gpu": {"go": False, "codes": {"DRV-SOURCE-PASSTHROUGH"}},
    "sealed": {"go": True, "codes": {"DRV-SOURCE-VTPM"}},
    "lost": {"go": False, "codes": {"DRV-SOURCE-VM-DISCONNECTED"}},
    "mute": {"go": True, "codes": {"DRV-GUEST-TOOLS"}},
}


def drover(vcsim, *args, code=0, **env):
    """Runs the CLI; the password must be in nothing that it says."""
    done = subprocess.run([DROVER, *args, "--vcenters", str(vcsim.vcenters)], capture_output=True, text=True, timeout=120,
                          stdin=subprocess.DEVNULL, env={**os.environ, **env})
    assert done.returncode == code, done
    assert vcsim.password not in done.stdout + done.stderr
    return done


def changed(vcsim):
    """Calls that changed something."""
    harmless = ("Retrieve", "Login", "Logout", "Create", "Destroy", "Continue", "Cancel", "Has", "Current", "Find", "Wait")
    return [c["method"] for c in vcsim.calls() if not c["method"].startswith(harmless) or c["method"] == "CreateSnapshot_Task"]


@pytest.fixture
def one(make_vcsim):
    return make_vcsim([vm("web01", disks=[disk("1G")])])


def test_whole_vcenter(make_vcsim):
    vcsim = make_vcsim(inventory())
    table = drover(vcsim, "discover").stdout.splitlines()
    assert table[0].split()[:3] == ["VM", "NAME", "POWER"] and len(table) == 1 + len(inventory())
    (row,) = [line for line in table if " web01 " in line]
    assert row.split()[:4] == [vcsim.vm("web01")["moref"], "web01", "on", "4"] and "53.7 GB" in row

    facts = {v["name"]: v for v in json.loads(drover(vcsim, "discover", "--json").stdout)}
    assert set(facts) == {v["name"] for v in inventory()}
    web = facts["web01"]
    assert web["vcenter"] == "dc1" and web["inventory_path"].endswith("/vm/web01") and web["instance_uuid"]
    assert (web["cpus"], web["memory_bytes"], web["change_tracking"], web["firmware"]) == (4, 8 * GIB, True, "bios")
    assert [(d["key"], d["unit"], d["label"], d["capacity_bytes"], d["provisioning"]) for d in web["disks"]] == [
        (2000, 0, "Hard disk 1", 40 * GIB, "thin"), (2001, 1, "Hard disk 2", 10 * GIB, "thick")]
    assert all(d["change_id"] and d["backing_path"].startswith("[") for d in web["disks"])
    assert web["disks"][0]["datastore"] == web["datastores"][0]["moref"] and web["datastores"][0]["free_bytes"]
    (nic,) = web["nics"]
    assert (nic["mac"], nic["network"], nic["addresses"]) == ("00:50:56:aa:00:01", "VM Network", ["192.0.2.7", "2001:db8::7"])
    assert facts["Win DB"]["secure_boot"] and facts["Win DB"]["firmware"] == "efi" and facts["sealed"]["vtpm"]
    assert [s["name"] for s in facts["snapped"]["snapshots"]] == ["before upgrade"]
    only = json.loads(drover(vcsim, "discover", "--json", "--filter", "w*").stdout)
    assert [v["name"] for v in only] == ["web01"]
    assert "No VM of vCenter dc1" in drover(vcsim, "discover", "--filter", "nobody*").stdout

    judged = {v["name"]: v for v in json.loads(drover(vcsim, "assess", "--all", "--json").stdout)}
    for name, v in judged.items():
        expected = EXPECTED.get(name, {"go": True, "codes": set()})
        told = {f["code"] for f in v["findings"]} - {"DRV-SOURCE-CBT-OFF", "DRV-SOURCE-VM-ENCRYPTED"}
        assert (v["go"], told) == (expected["go"], expected["codes"]), (name, v["findings"])
        assert (v["wave"] is None) != v["go"]
        assert v["estimate"]["throughput_assumed"] and v["estimate"]["first_round_seconds"]["low"] > 0
    assert judged["web01"]["wave"] and judged["mute"]["wave"] >= judged["web01"]["wave"]
    text = drover(vcsim, "assess", "--all", "--throughput", "50M-100M", "--wave-vms", "2").stdout
    assert f"{sum(v['go'] for v in judged.values())} of {len(judged)} VMs can go" in text
    assert "Throughput is assumed" not in text and "Change rates are assumed" in text
    rows = list(csv.DictReader(io.StringIO(drover(vcsim, "assess", "--csv", "*").stdout)))
    assert {r["name"]: r["verdict"] == "go" for r in rows} == {n: v["go"] for n, v in judged.items()}
    assert drover(vcsim, "preflight", "lun", code=5).stdout.endswith("lun: no-go\n")
    assert drover(vcsim, "preflight", "/DC0/vm/web01").stdout.endswith("web01: go\n")
    assert changed(vcsim) == []


def test_job_template_is_a_job(make_vcsim, make, pb, work):  # noqa: F811
    """What discover writes, submit takes as it is; the leader's topic has the VM, not an address or a password."""
    vcsim = make_vcsim([vm("Web (prod) #1", disks=[disk("2G"), disk("1G")], firmware="efi", secure_boot=True)])
    fleet = make()
    job = work / "template.yaml"
    job.write_text(drover(vcsim, "discover", "--vcenter", "dc1", "--job-template", "Web (prod) #1").stdout)
    assert "DRV-SOURCE-CBT-OFF" in job.read_text() and "Hard disk 2" in job.read_text()
    assert fleet.drover("submit", "--check", str(job)).stdout == f"{job}: good\n"
    assert fleet.drover("submit", str(job)).stdout.startswith("mig-")
    moref = vcsim.vm("Web (prod) #1")["moref"]
    fleet.drover("migrate", "--source", f"vsphere:dc1/{moref}/2000", "--name", "again")
    fleet.drover("submit", str(ROOT / "docs/examples/job-vm.yaml"))
    template, flags, example = (c.submit for c in commands(fleet, pb, 3))
    assert template.name == "Web-prod-1" and template.target.boot_type == "UEFI" and template.target.boot_mode == "SECURE"
    sources = [d.source.vsphere for d in template.disks]
    uuid = json.loads(drover(vcsim, "discover", "--json").stdout)[0]["instance_uuid"]
    assert [(s.vcenter, s.vm_moref, s.vm_uuid, s.disk_key) for s in sources] == [("dc1", moref, uuid, 2000), ("dc1", moref, uuid, 2001)]
    assert template.source_policy.power == pb.common.POWER_POLICY_ASK
    assert flags.disks[0].source.vsphere.disk_key == 2000
    assert example.deep_verify_before_cutover and example.source_policy.snapshot_max_age_ms == 24 * 3600_000
    assert vcsim.password.encode() not in template.SerializeToString() + example.SerializeToString()


def test_cbt_status(make_vcsim):
    vcsim = make_vcsim([vm("on", disks=[disk("1G")], tracking=True), vm("off", disks=[disk("1G")]),
                        vm("never", disks=[disk("1G")], snapshots=["mine"]), vm("twin"), vm("a?b")])
    status = json.loads(drover(vcsim, "cbt-status", "on", "--json").stdout)
    assert status["enabled"] and status["possible"] and status["disks"][0]["change_id"]
    assert "changed block tracking is off\n" in drover(vcsim, "cbt-status", "off").stdout
    text = drover(vcsim, "cbt-status", vcsim.vm("never")["moref"]).stdout
    assert "off, and cannot be switched on" in text and "DRV-SOURCE-CBT-SNAPSHOTS" in text and "'mine'" in text
    assert drover(vcsim, "cbt-status", "a?b").stdout.startswith("a?b (")  # a name, not a pattern
    assert "DRV-VM-NAME" in drover(vcsim, "cbt-status", "o*", code=5).stderr
    assert "VM is missing" in drover(vcsim, "cbt-status", code=2).stderr


def test_rights(one):
    assert "DRV-SOURCE-RIGHTS" not in drover(one, "preflight", "web01").stdout
    one.deny("VirtualMachine.State.CreateSnapshot", "VirtualMachine.Provisioning.DiskRandomRead")
    text = drover(one, "preflight", "web01", code=5).stdout
    assert "DRV-SOURCE-RIGHTS" in text
    assert "VirtualMachine.State.CreateSnapshot, VirtualMachine.Provisioning.DiskRandomRead." in text


def test_port_902(one):
    """The stand-in's ESXi hosts have no address: nothing is reached, and only whoever asks for it is told."""
    assert "DRV-SOURCE-PORT-902" not in drover(one, "preflight", "web01").stdout
    assert "DRV-SOURCE-PORT-902" in drover(one, "preflight", "web01", "--port-902", code=5).stdout
    assert "no-go" in drover(one, "assess", "--all", "--port-902").stdout


def test_mistakes_are_told(one, tmp_path):
    def told(code, *args, **env):
        return drover(one, *args, code=code, **env).stderr

    assert "DRV-VCENTER-UNKNOWN" in told(5, "discover", "--vcenter", "dc9")
    assert "DRV-VM-NAME" in told(5, "discover", "--job-template", "nobody")
    assert "name VMs by a FILTER, or all by --all" in told(2, "assess")
    assert "is no range" in told(2, "assess", "--all", "--throughput", "9M-1M")
    assert "--change-rate" in told(2, "assess", "--all", "--change-rate", "much")
    one.write_vcenters(thumbprint="AA:" * 19 + "AA")
    assert "DRV-VCENTER-TLS" in told(5, "discover")
    one.write_vcenters(user="nobody@vsphere.local")
    assert "DRV-VCENTER-LOGIN" in told(5, "discover")
    wrong = tmp_path / "password"
    one._secret(wrong, "not-the-password-9\n")
    one.write_vcenters(**{"password-file": wrong})
    assert "DRV-VCENTER-LOGIN" in (said := told(5, "discover")) and "not-the-password-9" not in said
    one.write_vcenters(**{"password-file": None})
    assert "DRV-VCENTER-PASSWORD" in told(5, "discover")
    drover(one, "discover", DROVER_VCENTER_DC1_PASSWORD=one.password)
    one.write_vcenters(url="https://127.0.0.1:1/sdk")
    assert "DRV-VCENTER-UNREACHABLE" in told(3, "discover")
    one.vcenters.unlink()
    assert str(one.vcenters) in told(5, "discover")


def test_password_is_on_no_command_line(one):
    """While the command waits for vCenter, its arguments and its environment are looked at."""
    one.rule("RetrievePropertiesEx", delay_ms=3_600_000, count=0)
    process = subprocess.Popen([DROVER, "discover", "--vcenters", str(one.vcenters)], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    try:
        fleet_module.wait_for(lambda: one.calls("RetrievePropertiesEx"), 60, "the call that is held up")
        for name in ("cmdline", "environ"):
            with open(f"/proc/{process.pid}/{name}", "rb") as seen:
                assert one.password.encode() not in seen.read()
    finally:
        one.clear()
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and "web01" in out and one.password not in out + err


def test_all_codes_and_rights_are_documented():
    """docs/vmware.md has a row for each finding about a source, and for each privilege that is asked for; those about a target are in
    docs/cloudstack.md: test_volume_agent_preflight.py."""
    rules = "".join(p.read_text() for p in sorted((ROOT / "core/preflight").glob("*.c")) if "target" not in p.name)
    text = (ROOT / "docs/vmware.md").read_text()
    codes = set(re.findall(r'"(DRV-[A-Z0-9-]+)"', rules))
    documented = set(re.findall(r"^\| `(DRV-[A-Z0-9-]+)` \|", text, re.MULTILINE))
    assert len(codes) > 30 and codes == documented
    rights = dict(re.findall(r'\{"([A-Z][A-Za-z.]+\.[A-Za-z]+)", "([^"]+)"', rules))
    assert len(rights) > 8 and all(f"| `{name}` | {label} |" in text for name, label in rights.items())


def test_help():
    for command in ("discover", "cbt-status", "preflight", "assess"):
        done = subprocess.run([DROVER, command, "--help"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and f"Usage: drover {command}" in done.stdout and "--vcenters=FILE" in done.stdout


def test_completion():
    """bash completes commands and options, as the program's own help has them."""
    def completed(*words):
        script = f". {ROOT}/cli/drover.bash-completion; COMP_CWORD=$(($# - 1)); COMP_WORDS=(\"$@\"); _drover; echo \"${{COMPREPLY[@]}}\""
        done = subprocess.run(["bash", "-c", script, "bash", *words], capture_output=True, text=True, timeout=60, check=True,
                              env={**os.environ, "PATH": f"{os.path.dirname(DROVER)}:{os.environ['PATH']}"})
        return done.stdout.split()

    assert completed("drover", "di") == ["discover"] and completed("drover", "cbt") == ["cbt-status"]
    assert {"pki", "migrate"} <= set(completed("drover", "")) and "drover" not in completed("drover", "")
    assert completed("drover", "discover", "--job") == ["--job-template"]
    assert set(completed("drover", "assess", "--wa")) == {"--wave-vms"}
