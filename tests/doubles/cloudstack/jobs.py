# SPDX-License-Identifier: Apache-2.0
"""Asynchronous jobs: each runs in a thread of its own; work on one VM takes turns, in no promised order.

A job's first checks run at once (quick 431s); then it waits for the VM's turn and checks again, as the
real one does.  Which of the waiting jobs goes next is drawn by lot: order is the caller's business.
"""
import contextlib
import random
import sys
import threading
import time
import traceback

import overlap
from errors import ApiError, internal
from faults import JOB
from model import new_id, stamp

# Seconds at --speed 1; the simulator of the recordings took three to ten times as long.
DELAYS = {"createVolume": 0.05, "placeVolume": 0.1, "attachVolume": 0.3, "detachVolume": 0.3,
          "resizeVolume": 0.1, "destroyVolume": 0.1, "deployVirtualMachine": 0.2, "startVirtualMachine": 0.5,
          "stopVirtualMachine": 0.3, "destroyVirtualMachine": 0.5, "expungeVirtualMachine": 0.4,
          "createSnapshot": 0.4, "revertSnapshot": 0.4, "deleteSnapshot": 0.1, "createVMSnapshot": 0.3, "deleteVMSnapshot": 0.2,
          "moveVolume": 0.3}
JITTER_S = 0.03


class Turns:
    """Mutual exclusion by key, where the next owner is chosen by `order`: random, lifo or fifo."""

    def __init__(self, order, rng):
        self.order = order
        self.rng = rng
        self.changed = threading.Condition()
        self.owner = {}
        self.waiting = {}

    @contextlib.contextmanager
    def turn(self, key):
        ticket = object()
        with self.changed:
            if key not in self.owner:
                self.owner[key] = ticket
            else:
                self.waiting.setdefault(key, []).append(ticket)
                while self.owner.get(key) is not ticket:
                    self.changed.wait()
        try:
            yield
        finally:
            with self.changed:
                queue = self.waiting.get(key)
                if queue:
                    index = {"fifo": 0, "lifo": -1}.get(self.order, self.rng.randrange(len(queue)))
                    self.owner[key] = queue.pop(index)
                else:
                    del self.owner[key]
                self.changed.notify_all()


class JobContext:
    """What a job's body gets: its record, the turns, and `work`, the part that takes time and may fail."""

    def __init__(self, engine, job):
        self.engine = engine
        self.job = job

    def turn(self, vm_id):
        """Wait for the VM's turn; without a VM there is nothing to wait for."""
        return self.engine.turns.turn(vm_id) if vm_id else contextlib.nullcontext()

    @property
    def undone(self):
        return bool(self.job["fault"]) and self.job["fault"]["action"] == "job-undone"

    def work(self, step, refusal):
        """Sleep as long as `step` takes; raise what the host answers when it was told to refuse."""
        self.engine.sleep(DELAYS[step])
        fault = self.job["fault"]
        if fault and fault["action"] == "job-delay" and not fault.get("slept"):
            with self.engine.store.lock:
                fault["slept"] = True
            time.sleep(float(fault.get("seconds", 5)))
        if fault and fault["action"] in ("job-fail", "job-lost"):
            raise ApiError(int(fault.get("code", 530)), fault.get("text") or refusal, 4250)


class JobEngine:
    def __init__(self, store, faults, options):
        self.store = store
        self.faults = faults
        self.speed = options.speed
        self.rng = random.Random(options.seed)
        self.turns = Turns(options.order, self.rng)

    def sleep(self, seconds):
        time.sleep(seconds / self.speed)

    def submit(self, command, java_class, account, params, instance, body, extra=None):
        """Start a job; call it with the lock held, so that its record is saved with what it is about.

        instance: (type, id) of what it works on.  body(context) -> function without arguments that builds
        the jobresult under the lock at the moment of completion.  Returns the answer to the request.
        """
        ident = new_id()
        job = {"id": ident, "number": self.store.number("job"), "command": command, "class": java_class,
               "account": account["name"], "instance_type": instance[0], "instance_id": instance[1],
               "created": stamp(), "completed": None, "status": 0, "code": 0, "result": None, "lost": False,
               "vanished": False, "fault": self.faults.take(command, params, JOB), "submitted_at": time.time()}
        job["subjects"] = overlap.subjects(self.store, command, {**params, "instance": instance[1]})
        overlap.check(self.store, command, job["subjects"])
        self.store.data["jobs"][ident] = job
        self.store.save()
        threading.Thread(target=self._run, args=(job, body), daemon=True).start()
        return {**(extra or {}), "jobid": ident}

    def _run(self, job, body):
        time.sleep(self.rng.random() * JITTER_S / self.speed)
        fault = job["fault"] or {}
        error, build = None, None
        try:
            build = body(JobContext(self, job))
        except ApiError as refusal:
            error = refusal
        except Exception as bug:  # a job must end, whatever happens
            traceback.print_exc(file=sys.stderr)
            error = internal(f"double: {bug!r}")
        with self.store.lock:
            if error is None and fault.get("action") == "job-fail-after":
                error = ApiError(int(fault.get("code", 530)), fault.get("text", "Unexpected exception"), 4250)
            if error is None:
                job.update(status=1, code=0, result=build())
                for thing in job["result"].values():
                    if isinstance(thing, dict) and "id" in thing:
                        thing.update(jobid=job["id"], jobstatus=0)
            elif fault.get("action") == "job-lost":
                job.update(status=2, code=530, lost=True)
            else:
                job.update(status=2, code=error.code,
                           result={"errorcode": error.code, "errortext": error.text})
            job.update(completed=stamp(), finished_at=time.time(),
                       vanished=fault.get("action") == "job-vanish")
            self.store.finish_job(job)
            self.store.save()
