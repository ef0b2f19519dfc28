# SPDX-License-Identifier: Apache-2.0
"""Random sequences of operations over 20 VMs and 60 volumes, with faults of CloudStack, restarts of it, and kill -9 of the agent at
random instants: at the end CloudStack, the journal, the devices and the exports agree, nothing was changed by two operations
at a time, and nothing is left over.

    DROVER_SEEDS=1-500 tests/run.sh fault -k volume_agent_sequences      # these seeds; otherwise some at a random place

DROVER_SEEDS_AT_A_TIME (3) may be more on a machine that has nothing else to do.
"""
import concurrent.futures
import json
import os
import random
import time
import uuid

import nbd
import pytest

import lib_copy
from lib_agent import AGENT, ENDED, GIB, AgentLeader, Double, children, state_name
from lib_sequences import HERE, Plan

CHANGES = ("createVolume", "attachVolume", "detachVolume", "deleteVolume", "deployVirtualMachine", "startVirtualMachine",
           "stopVirtualMachine", "destroyVirtualMachine", "assignVolume")
ASKS = ("listVolumes", "listVirtualMachines", "queryAsyncJobResult", "listAsyncJobs")
ANY = ("drop-before", "drop-after", "hang", "http", "throttle", "error")
JOBS = ("job-fail", "job-fail-after", "job-vanish", "job-lost", "job-delay")
OPTIONS = {"call_expiry": "3s", "cloudstack_timeout": "4s", "device_timeout": "3s", "max_attempts": 15, "reconcile_interval": "2s"}
AT_A_TIME = int(os.environ.get("DROVER_SEEDS_AT_A_TIME", 3))


class Trial:
    """What is sent follows from the seed; the instants at which things happen do not."""

    def __init__(self, seed, kafka, directory):
        self.seed, self.rng = seed, random.Random(f"sequence {seed}")
        self.crossing = self.rng.random() < 0.4
        self.plan = Plan(self.rng, seed, self.rng.randint(50, 90), self.crossing)
        self.cloud = Double(directory / "cloud", "--max-data-disks", "100", "--seed", str(seed), appliance=AGENT, speed=12)
        self.leader = AgentLeader(kafka, self.cloud, directory / "agent")
        self.kills = 0

    def close(self):
        self.leader.close()
        self.cloud.__exit__()

    # ---- trouble

    def fault(self):
        rng = self.rng
        command = rng.choice(CHANGES if rng.random() < 0.8 else ASKS)
        if command in ASKS:
            action = rng.choice(ANY)
        elif command in ("deleteVolume", "assignVolume"):  # synchronous
            action = rng.choice(ANY)
        elif command == "attachVolume":
            action = rng.choice((*ANY, *JOBS, "hotplug-never", "hotplug-late"))
        elif command == "deployVirtualMachine":  # a failure would leave it in Error
            action = rng.choice((*ANY, "job-vanish", "job-delay") if not self.crossing else (*ANY, *JOBS))
        else:
            action = rng.choice((*ANY, *JOBS))
        self.cloud.fault(command, action, seconds=round(rng.uniform(0.3, 2.5), 1))

    def agent(self):
        agent = self.leader.agent(**OPTIONS)
        self.leader.ready(agent)
        return agent

    def instant(self):
        """Sleeps until some more requests have come, or for a while; then a moment more."""
        log = os.path.join(self.cloud.dir, "requests.log")
        until, wanted = time.monotonic() + self.rng.uniform(0.3, 3), os.path.getsize(log) + self.rng.randint(1, 30) * 350
        while time.monotonic() < until and os.path.getsize(log) < wanted:
            time.sleep(0.004)
        time.sleep(self.rng.uniform(0, 0.05))

    def disturb(self, agent):
        rng, what = self.rng, self.rng.random()
        if what < 0.65:
            agent.kill()
            self.kills += 1
            return self.agent()
        if what < 0.8:  # a second instance of the same agent: the first is fenced, and ends by itself
            successor = self.agent()
            assert agent.process.wait(60) == 3, f"the fenced agent ended with {agent.process.returncode}"
            return successor
        if what < 0.9:
            assert agent.stop(60) == 0
            return self.agent()
        self.cloud.kill()
        time.sleep(rng.uniform(0, 0.5))
        self.cloud.start()
        return agent

    def run(self):
        agent = self.agent()
        sent, waiting = [], list(self.plan.operations)
        for step in range(self.rng.randint(4, 7)):
            share = len(waiting) if step == 3 else self.rng.randint(0, len(waiting))
            for kind, job, disk, undo, fields, good in waiting[:share]:
                sent.append((self.leader.operation(kind, job=job, disk=disk, undo=undo, **fields), kind, good))
            del waiting[:share]
            for _ in range(self.rng.randint(0, 3)):
                self.fault()
            self.instant()
            agent = self.disturb(agent)
        for ident, kind, good in sent:
            record = self.leader.ended(ident, 180)
            if not self.crossing:
                assert (state_name(record) == "DONE") == good, \
                    f"{ident}: {state_name(record)} {record.error.message}, but it should have {'succeeded' if good else 'failed'}"
        self.cloud.control("reset", {})  # of the faults
        for record in [self.leader.journal(i)[-1] for i, kind, _ in sent if kind == "deploy_vm"]:
            if state_name(record) == "FAILED" and record.result.vm_id:  # as a leader would
                self.leader.do("destroy_vm", undo=True, job="tidy", disk="", vm_id=record.result.vm_id)
        return agent

    # ---- the end

    def check(self):
        agent = self.run()
        self.agree(agent)
        report = json.loads(self.leader.do("force_sync", job="compare", disk="", timeout=60).report)
        assert not report["differences"], report
        before = len(self.leader.changes())
        agent.kill()
        agent = self.agent()
        self.agree(agent)
        assert len(self.leader.changes()) == before, "a restart changed something"
        self.leave_nothing(agent)

    def agree(self, agent):
        state = self.cloud.state()
        assert not [e for e in state["events"] if e["kind"] == "overlap" or e["kind"].startswith("open-at")], state["events"]
        assert not [j for j in state["jobs"].values() if j["status"] == 0]
        appliance = self.leader.site.appliance
        volumes = {v["id"]: v for v in state["volumes"].values() if not v["removed"]}
        vms = {v["id"]: v for v in state["vms"].values() if not v["removed"] and v["id"] != appliance}
        # Nothing that nobody asked for, nothing half made.
        own_roots = {v["vm_id"] for v in volumes.values() if v["type"] == "ROOT" and v["template"]} - {appliance}
        strange = [v for v in volumes.values() if v["id"] not in self.plan.made and not (v["type"] == "ROOT" and v["vm_id"])]
        assert not strange, f"left over: {strange}"
        assert set(vms) <= self.plan.made and own_roots <= set(vms)
        assert all(v["state"] in ("Allocated", "Ready") for v in volumes.values()), volumes
        assert all(v["state"] in ("Running", "Stopped") for v in vms.values()), vms
        # Devices: what is attached to the appliance, and nothing else.
        attached = {v["id"] for v in volumes.values() if v["vm_id"] == appliance and v["type"] != "ROOT"}
        devices = self.cloud.devices(appliance)
        assert {i.replace("-", "")[:20] for i in attached} == set(devices) - {v["id"].replace("-", "")[:20] for v in volumes.values() if
                                                                             v["vm_id"] == appliance and v["type"] == "ROOT"}
        # Exports: journal, heartbeat and NBD server say the same, and each has its device.
        exports = self.leader.exports()
        assert set(exports) <= attached, "an export of a volume that is not attached"
        told = {v: (e.generation, e.writable) for v, e in exports.items()}
        self.leader.heartbeat(agent, lambda h: {e.volume_id: (e.generation, e.writable) for e in h.agent.exports} == told)
        server = self.nbdkit(agent)
        served = self.open_files(server)
        writable = {v for v, e in exports.items() if e.writable}
        assert served == writable, f"nbdkit has {served} open, the journal {writable}"
        assert not self.open_files(agent.pid)
        for ident, export in exports.items():
            name = devices[ident.replace("-", "")[:20]][0]
            assert not export.writable or export.device_path.endswith("/" + name), (export.device_path, name)
        for ident in sorted(exports)[:3]:
            self.knock(exports[ident])
        if not self.crossing:
            wanted_volumes, wanted_vms, wanted_exports = self.plan.end()
            found = {v["id"]: (HERE if v["vm_id"] == appliance else v["vm_id"], v["deviceid"] if v["vm_id"] not in (None, appliance) else None)
                     for v in volumes.values() if v["id"] in self.plan.made}
            assert found == wanted_volumes
            assert {i: (v["state"], i in own_roots) for i, v in vms.items()} == wanted_vms
            assert told == wanted_exports

    @staticmethod
    def nbdkit(agent):
        servers = [pid for pid in children(agent.pid) if b"nbdkit" in open(f"/proc/{pid}/cmdline", "rb").read()]
        assert len(servers) == 1, servers
        return servers[0]

    def open_files(self, pid):
        """Ids of the volumes whose bytes a process has open."""
        found = set()
        for fd in os.scandir(f"/proc/{pid}/fd"):
            try:
                path = os.readlink(fd.path)
            except OSError:
                continue
            if path.startswith(os.path.join(self.cloud.dir, "volumes")):
                found.add(os.path.basename(path).split(".")[0])
        return found

    def knock(self, export):
        h = nbd.NBD()
        h.set_export_name(f"{export.export_name}@{export.generation}.{export.token}")
        try:
            h.connect_tcp("127.0.0.1", str(self.leader.nbd_port))
            h.pwrite(b"x" * 512, GIB - 512)
            h.flush()
            wrote = True
        except nbd.Error:
            wrote = False
        assert wrote == export.writable, f"{export.volume_id}: writable {export.writable}, but writing {'worked' if wrote else 'failed'}"

    def leave_nothing(self, agent):
        """What a leader would undo is undone to the last thing."""
        state = self.cloud.state()
        sent = [self.leader.operation("destroy_vm", undo=True, job=f"undo-{v['id']}", disk="", vm_id=v["id"])
                for v in state["vms"].values() if not v["removed"] and v["id"] in self.plan.made]
        for ident in sent:
            self.leader.done(ident, 120)
        sent = [self.leader.operation("delete_volume", undo=True, job=f"undo-{v['id']}", volume_id=v["id"])
                for v in state["volumes"].values() if not v["removed"] and v["id"] in self.plan.made]
        for ident in sent:
            self.leader.done(ident, 120)
        state, appliance = self.cloud.state(), self.leader.site.appliance
        assert [v["id"] for v in state["vms"].values() if not v["removed"]] == [appliance]
        assert all(v["vm_id"] == appliance and v["type"] == "ROOT" for v in state["volumes"].values() if not v["removed"])
        assert not self.leader.exports() and not self.open_files(self.nbdkit(agent))
        assert not [e for e in state["events"] if e["kind"] == "overlap" or e["kind"].startswith("open-at")], state["events"]
        server = self.nbdkit(agent)
        assert agent.stop(60) == 0
        assert not os.path.exists(f"/proc/{server}"), "nbdkit outlived its agent"
        assert all(r.state in ENDED for r in self.last_records())

    def last_records(self):
        last = {}
        with self.leader.lock:
            for key, record in self.leader.records[f"drover.journal.{AGENT}"]:
                if key.startswith("op/"):
                    last[key] = record
        # The agent may have asked itself for a comparison just when it was told to stop.
        return [r.operation for r in last.values() if r is not None and r.operation.operation.job_id != "reconcile"]


def one(seed, kafka, directory):
    directory.mkdir()
    trial = Trial(seed, kafka, directory)
    try:
        trial.check()
    except BaseException as error:
        raise AssertionError(f"DROVER_SEEDS={seed} ({'crossing' if trial.crossing else 'orderly'}, {trial.kills} kills, "
                             f"{directory}): {error!r}") from error
    finally:
        trial.close()
    return trial.kills


def test_sequences(kafka, tmp_path):
    began, done, kills, failures = time.monotonic(), 0, 0, []
    chosen = iter(lib_copy.seeds(500))
    bounded = "DROVER_SEEDS" not in os.environ
    with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
        running = set()
        while True:
            while len(running) < AT_A_TIME and not (bounded and time.monotonic() - began > 90):
                seed = next(chosen, None)
                if seed is None:
                    break
                running.add(pool.submit(one, seed, kafka, tmp_path / str(seed)))
            if not running:
                break
            ended, running = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in ended:
                done += 1
                if future.exception():
                    failures.append(str(future.exception()))
                    print(failures[-1][:2000], flush=True)
                else:
                    kills += future.result()
                print(f"{done} sequences, {len(failures)} failed, {kills} kills, {time.monotonic() - began:.0f} s", flush=True)
    assert not failures, "\n".join(failures)
    assert done >= 3 or not bounded, "too few sequences to mean anything"


# ---- what sequences found, one by one --------------------------------------------------------------------------------------


@pytest.fixture
def bench(kafka, tmp_path):
    with Double(tmp_path / "cloud", appliance=AGENT, speed=10) as cloud:
        leader = AgentLeader(kafka, cloud, tmp_path / "agent")
        leader.ready(leader.agent(**OPTIONS))
        yield leader
        leader.close()


def test_a_refused_swap_leaves_the_vm_its_root_disk(bench):
    cloud, vm = bench.cloud, str(uuid.uuid4())
    bench.do("deploy_vm", disk="", name="keeps", custom_id=vm)
    root = bench.site.root(vm)["id"]
    # Known before: nothing is touched.
    error = bench.failed(bench.operation("swap_root", vm_id=vm, volume_id=str(uuid.uuid4())))
    assert error.code == "DRV-VOLUME-MISSING" and not bench.changes("detachVolume")
    error = bench.failed(bench.operation("swap_root", vm_id=vm, volume_id=bench.volume()))
    assert error.code == "DRV-VOLUME-ELSEWHERE" and not bench.changes("detachVolume")
    # Known only when it is tried: what was taken off is put back.
    volume = bench.volume(attach=False)
    cloud.fault("attachVolume", "job-fail", code=431, text="Please specify another volume", match={"id": volume})
    error = bench.failed(bench.operation("swap_root", vm_id=vm, volume_id=volume))
    assert "another volume" in error.message and bench.changes("detachVolume")
    assert bench.site.root(vm)["id"] == root and "virtualmachineid" not in bench.site.look(volume)


def overlaps(leader):
    return [e for e in leader.cloud.state()["events"] if e["kind"] == "overlap"]


@pytest.mark.parametrize("killed", [False, True])
def test_a_vm_is_left_alone_while_a_disk_is_taken_off_it(bench, killed):
    """What an operation finds out on its way (which VM a disk hangs on, which disks a VM has) is its own as well."""
    cloud, vm, volume = bench.cloud, str(uuid.uuid4()), bench.volume(attach=False)
    bench.do("deploy_vm", disk="", name="busy", custom_id=vm)
    bench.do("attach_to_vm", vm_id=vm, volume_id=volume, device_id=1)
    cloud.fault("detachVolume", "job-delay", seconds=4)
    detach = bench.operation("detach_volume", job="job-a", volume_id=volume)
    bench.reached(detach, "WAITING")
    start = bench.operation("start_vm", job="job-b", vm_id=vm)
    bench.reached(start, "ACCEPTED")
    if killed:
        bench.agents[-1].kill()
        bench.ready(bench.agent(**OPTIONS))
    bench.done(detach)
    bench.done(start)
    assert not overlaps(bench)
    # The other way round: the VM is busy when the disk's turn comes; and both at once with the VM's destruction.
    bench.do("attach_to_vm", vm_id=vm, volume_id=volume, device_id=1)
    cloud.fault("stopVirtualMachine", "job-delay", seconds=2)
    sent = [bench.operation("stop_vm", job="job-a", vm_id=vm)]
    bench.reached(sent[0], "WAITING")
    sent.append(bench.operation("delete_volume", job="job-b", volume_id=volume))
    sent.append(bench.operation("destroy_vm", job="job-c", vm_id=vm))
    for ident in sent:
        bench.done(ident)
    assert not overlaps(bench)


@pytest.mark.parametrize("action", ["drop-after", "job-vanish"])
def test_a_cleanup_whose_last_answer_is_lost_has_succeeded(bench, action):
    vm = str(uuid.uuid4())
    bench.do("deploy_vm", disk="", name="empty", custom_id=vm)
    bench.cloud.fault("destroyVirtualMachine", action)
    assert bench.do("cleanup_test_failover", disk="", vm_id=vm).vm_id == vm
    assert bench.failed(bench.operation("cleanup_test_failover", disk="", vm_id=vm)).code == "DRV-VM-MISSING"


def test_a_replaced_instance_leaves_the_nbd_server_of_its_successor_alone(bench):
    """The first instance sees its NBD server die before it learns that it was replaced: it must not start one in the place of the
    successor's, nor take away its socket."""
    first, volume = bench.agents[-1], bench.volume()
    opened = bench.do("open_export", volume_id=volume, generation=1)
    second = bench.agent(**OPTIONS)
    bench.ready(second)
    assert first.process.wait(60) == 3
    time.sleep(1)  # whatever the first one may have begun
    assert bench.do("open_export", volume_id=volume, generation=2).token != opened.token
    second.kill()
    third = bench.agent(**OPTIONS)  # it finds the server of the second, if that is still there
    bench.ready(third)
    Trial.nbdkit(third)
    assert (bench.run_dir / f"{AGENT}.nbdkit.pid").read_text().strip() == str(Trial.nbdkit(third))
    bench.do("open_export", volume_id=volume, generation=3)


def test_a_call_that_comes_too_late_is_signed_anew(bench):
    """Also one that comes within the last second, of which the signature has only the beginning."""
    sent = []
    for seconds in (2.0, 2.2, 2.4, 2.6, 2.8, 3.0, 3.2):
        ident = str(uuid.uuid4())
        bench.cloud.fault("createVolume", "delay", seconds=seconds, match={"customid": ident})
        sent.append(bench.operation("create_volume", job=f"job-{seconds}", name="late", size_bytes=GIB, custom_id=ident))
    for ident in sent:
        bench.done(ident, 60)


def test_a_device_that_never_came_is_plugged_in_anew_after_a_restart(bench):
    """The next agent finds the volume attached: that it has no device must not be taken for one that only has to grow."""
    volume = bench.volume(attach=False)
    bench.cloud.fault("attachVolume", "hotplug-never")
    attach = bench.operation("attach_volume", volume_id=volume, minimum_size_bytes=GIB)
    until = time.monotonic() + 30
    while not [e for e in bench.cloud.state()["events"] if e["kind"] == "hotplug-never"]:
        assert time.monotonic() < until
        time.sleep(0.02)
    bench.agents[-1].kill()
    bench.ready(bench.agent(**OPTIONS))
    assert bench.done(attach).device_size_bytes == GIB
    assert len(bench.changes("detachVolume")) == 1 and len(bench.changes("attachVolume")) == 2


def test_a_vm_in_error_is_neither_started_nor_stopped(bench):
    vm = str(uuid.uuid4())
    bench.cloud.fault("deployVirtualMachine", "job-fail")
    assert bench.failed(bench.operation("deploy_vm", disk="", name="wreck", custom_id=vm)).code == "DRV-VM-ERROR"
    for kind in ("start_vm", "stop_vm"):
        assert bench.failed(bench.operation(kind, disk="", vm_id=vm)).code == "DRV-VM-ERROR"
    bench.do("stop_vm", disk="", vm_id=vm, undo=True)
    assert not bench.changes("startVirtualMachine") and not bench.changes("stopVirtualMachine")
    bench.do("destroy_vm", disk="", vm_id=vm, undo=True)
