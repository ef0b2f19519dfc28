# SPDX-License-Identifier: Apache-2.0
"""Random operations for a volume agent over 20 VMs with three volumes each, and what must have come of them.

A sequence either keeps to itself - every job works on the VM and the volumes that are its own, in the order of sending, so the
end is known exactly - or its jobs get in each other's way, and then only what holds for every order is known."""
import uuid

import messages as pb
from lib_agent import GIB

VMS, VOLUMES_EACH = 20, 3
HERE = "appliance"
DEVICES = (1, 2, 4)  # CloudStack's deviceid of a VM's volumes; it never gives 3 away


class Volume:
    def __init__(self):
        self.life = 0            # a deleted id cannot be used again
        self.exists = False
        self.where, self.slot = None, None  # HERE or a Vm
        self.open = None         # generation of the export, and whether it may be written to
        self.writable = False
        self.generation = 0

    def leave(self):
        self.where = self.slot = self.open = None
        self.writable = False


class Vm:
    def __init__(self):
        self.life, self.state, self.own_root = 0, None, False


class Plan:
    """The operations of one sequence: (kind, job, disk, undo, fields, whether it should succeed)."""

    def __init__(self, rng, seed, length, crossing):
        self.rng, self.seed, self.crossing = rng, seed, crossing
        self.vms = [Vm() for _ in range(VMS)]
        self.volumes = [Volume() for _ in range(VMS * VOLUMES_EACH)]
        self.made = set()  # ids that an operation may have made
        # The middle of a migration is where it is interesting: most volumes exist and are somewhere.
        self.operations = []
        for number in range(VMS):
            self._begin(number)
        while len(self.operations) < length:
            self._next()

    def volume_id(self, number):
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.seed} volume {number} {self.volumes[number].life}"))

    def vm_id(self, number):
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.seed} vm {number} {self.vms[number].life}"))

    def _add(self, number, kind, fields, good, disk="", undo=False):
        job = f"job-{self.rng.randrange(VMS) if self.crossing else number}"
        self.operations.append((kind, job, disk, undo, fields, good))

    def _begin(self, number):
        rng = self.rng
        if rng.random() < 0.3:
            self.deploy_vm(number)
        for volume in self._of(number):
            if rng.random() < 0.3:
                self.create_volume(number, volume)
                if rng.random() < 0.5:
                    self.attach_volume(number, volume)

    @staticmethod
    def _of(number):
        return range(number * VOLUMES_EACH, (number + 1) * VOLUMES_EACH)

    def _next(self):
        rng = self.rng
        # Few VMs at a time, so that operations meet.
        number = min(rng.randrange(VMS), rng.randrange(VMS))
        volume = rng.choice(self._of(rng.randrange(VMS) if self.crossing and rng.random() < 0.3 else number))
        kind = rng.choice((self.create_volume, self.create_volume, self.attach_volume, self.attach_volume, self.detach_volume,
                           self.open_export, self.open_export, self.close_export, self.remove_export, self.deploy_vm,
                           self.swap_root, self.swap_root, self.attach_to_vm, self.attach_to_vm, self.start_vm, self.stop_vm,
                           self.destroy_vm, self.delete_volume, self.cleanup_test_failover, self.remove_orphan_exports,
                           self.force_sync))
        if kind in (self.destroy_vm, self.delete_volume, self.cleanup_test_failover, self.force_sync,
                    self.remove_orphan_exports) and rng.random() < 0.5:
            return
        if kind in (self.deploy_vm, self.start_vm, self.stop_vm, self.destroy_vm, self.cleanup_test_failover):
            kind(number)
        elif kind in (self.remove_orphan_exports, self.force_sync):
            self._add(number, kind.__name__, {"repair": True} if kind == self.force_sync else {}, True)
        else:
            kind(number, volume)

    # ---- one operation each: sent, and done in the model

    def remove_orphan_exports(self):
        pass

    def force_sync(self):
        pass

    def _volume(self, number, volume, kind, good, undo=False, **fields):
        self._add(number, kind, {"volume_id": self.volume_id(volume), **fields}, good, f"disk{volume}", undo)

    def create_volume(self, number, index):
        volume = self.volumes[index]
        if not volume.exists:
            volume.life += 1
            volume.exists = True
        ident = self.volume_id(index)
        self.made.add(ident)
        self._add(number, "create_volume", {"name": f"v{index}", "size_bytes": GIB, "custom_id": ident}, True, f"disk{index}")

    def attach_volume(self, number, index):
        volume = self.volumes[index]
        good = volume.exists and volume.where in (None, HERE)
        self._volume(number, index, "attach_volume", good, minimum_size_bytes=GIB)
        if good:
            volume.where = HERE

    def _pinned(self, volume):
        """The root disk of a running VM."""
        return isinstance(volume.where, Vm) and volume.slot == 0 and volume.where.state == "Running"

    def detach_volume(self, number, index):
        volume, undo = self.volumes[index], self.rng.random() < 0.3
        good = (volume.exists or undo) and not self._pinned(volume)
        self._volume(number, index, "detach_volume", good, undo)
        if good:
            volume.leave()

    def delete_volume(self, number, index):
        volume = self.volumes[index]
        good = not self._pinned(volume)
        self._volume(number, index, "delete_volume", good, self.rng.random() < 0.5)
        if good:
            volume.leave()
            volume.exists = False

    def open_export(self, number, index):
        volume = self.volumes[index]
        if volume.where != HERE:  # would only wait for a device
            return
        again = volume.open and self.rng.random() < 0.2
        stale = volume.open and volume.open > 1 and self.rng.random() < 0.15
        if stale:
            return self._volume(number, index, "open_export", False, generation=volume.open - 1)
        if not again:
            volume.generation += 1
        generation = volume.open if again else volume.generation
        good = not again or volume.writable
        self._volume(number, index, "open_export", good, generation=generation, minimum_size_bytes=GIB)
        if good:
            volume.open, volume.writable = generation, True

    def close_export(self, number, index):
        volume = self.volumes[index]
        if volume.generation == 0:  # closing one that was never open ends it before its time
            return
        generation = max(1, volume.generation - (self.rng.random() < 0.2))
        self._volume(number, index, "close_export", True, generation=generation)
        if volume.open and volume.open <= generation:
            volume.writable = False

    def remove_export(self, number, index):
        self._volume(number, index, "remove_export", True)
        self.volumes[index].open, self.volumes[index].writable = None, False

    def deploy_vm(self, number):
        vm = self.vms[number]
        if vm.state is None:
            vm.life += 1
            vm.state, vm.own_root = "Stopped", True
        ident = self.vm_id(number)
        self.made.add(ident)
        # Every third VM is a tenant's: its volumes change their owner whenever they come and go.
        tenants = {"target": pb.job.TargetSpec(account="tenant", network_ids=["tenant-net"])} if number % 3 == 0 else {}
        self._add(number, "deploy_vm", {"name": f"vm{number}", "custom_id": ident, **tenants}, True)

    def _root(self, vm):
        return next((v for v in self.volumes if v.where is vm and v.slot == 0), None)

    def swap_root(self, number, index):
        vm, volume = self.vms[number], self.volumes[index]
        ours = volume.where is vm and volume.slot == 0
        free = volume.exists and volume.where in (None, vm)
        good = bool(vm.state) and (ours or (vm.state == "Stopped" and free and (vm.own_root or self._root(vm) is None)))
        self._add(number, "swap_root", {"vm_id": self.vm_id(number), "volume_id": self.volume_id(index)}, good, f"disk{index}")
        if good and not ours:
            volume.leave()
            volume.where, volume.slot, vm.own_root = vm, 0, False

    def attach_to_vm(self, number, index):
        vm, volume = self.vms[number], self.volumes[index]
        slot = DEVICES[index % VOLUMES_EACH]
        if self.crossing and any(v.where is vm and v.slot == slot and v is not volume for v in self.volumes):
            return  # would only try again and again
        good = bool(vm.state) and volume.exists and volume.where in (None, vm) and not (self._pinned(volume) and volume.slot != slot)
        self._add(number, "attach_to_vm", {"vm_id": self.vm_id(number), "volume_id": self.volume_id(index), "device_id": slot}, good,
                  f"disk{index}")
        if good:
            volume.leave()
            volume.where, volume.slot = vm, slot

    def _power(self, number, kind, state):
        vm = self.vms[number]
        if state == "Running" and vm.state and not vm.own_root and self._root(vm) is None:
            return  # would only try again and again
        self._add(number, kind, {"vm_id": self.vm_id(number)}, bool(vm.state))
        vm.state = vm.state and state

    def start_vm(self, number):
        self._power(number, "start_vm", "Running")

    def stop_vm(self, number):
        self._power(number, "stop_vm", "Stopped")

    def _gone(self, vm, where):
        for volume in self.volumes:
            if volume.where is vm:
                volume.leave()
                volume.where = where
        vm.state, vm.own_root = None, False

    def destroy_vm(self, number):
        self._add(number, "destroy_vm", {"vm_id": self.vm_id(number)}, True)
        self._gone(self.vms[number], None)

    def cleanup_test_failover(self, number):
        vm = self.vms[number]
        self._add(number, "cleanup_test_failover", {"vm_id": self.vm_id(number)}, bool(vm.state))
        if vm.state:
            self._gone(vm, HERE)

    # ---- the end

    def end(self):
        """({volume id: (VM id or HERE or None, deviceid or None)}, {VM id: (state, has its own root)}, {volume id: (generation,
        writable)})"""
        volumes, exports = {}, {}
        for index, volume in enumerate(self.volumes):
            if volume.exists:
                where = self.vm_id(self.vms.index(volume.where)) if isinstance(volume.where, Vm) else volume.where
                volumes[self.volume_id(index)] = (where, volume.slot if isinstance(volume.where, Vm) else None)
                if volume.open:
                    exports[self.volume_id(index)] = (volume.open, volume.writable)
        vms = {self.vm_id(n): (vm.state, vm.own_root) for n, vm in enumerate(self.vms) if vm.state}
        return volumes, vms, exports


