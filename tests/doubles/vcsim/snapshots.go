// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"log"
	"os"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// VirtualMachineSnapshot has the name of its managed object type, as the simulator wants it. It holds a copy of each
// disk, which goes with it.
type VirtualMachineSnapshot struct {
	mo.VirtualMachineSnapshot
	sim    *sim
	name   string
	delta  int32            // its disks are the delta disks of this number; 0: the base
	above  int32            // those that were written since
	frozen map[int32]string // disk key -> file
}

func (m *machine) CreateSnapshotTask(_ *simulator.Context, req *types.CreateSnapshot_Task) soap.HasFault {
	body := &methods.CreateSnapshot_TaskBody{}
	ref, f := started(m.sim.start(m.VirtualMachine, "CreateSnapshot_Task", req, func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
		return m.sim.createSnapshot(ctx, m.VirtualMachine, req)
	}))
	if body.Fault_ = f; f == nil {
		body.Res = &types.CreateSnapshot_TaskResponse{Returnval: ref}
	}
	return body
}

// CreateSnapshotExTask and the others below are not what a migration uses.
func (m *machine) CreateSnapshotExTask(*simulator.Context, *types.CreateSnapshotEx_Task) soap.HasFault {
	return &methods.CreateSnapshotEx_TaskBody{Fault_: fault(&types.NotSupported{}, "not in this stand-in")}
}

func (m *machine) RevertToCurrentSnapshotTask(*simulator.Context, *types.RevertToCurrentSnapshot_Task) soap.HasFault {
	return &methods.RevertToCurrentSnapshot_TaskBody{Fault_: fault(&types.NotSupported{}, "not in this stand-in")}
}

func (m *machine) RemoveAllSnapshotsTask(*simulator.Context, *types.RemoveAllSnapshots_Task) soap.HasFault {
	return &methods.RemoveAllSnapshots_TaskBody{Fault_: fault(&types.NotSupported{}, "not in this stand-in")}
}

func (s *sim) createSnapshot(ctx *simulator.Context, vm *simulator.VirtualMachine, req *types.CreateSnapshot_Task) (types.AnyType, types.BaseMethodFault) {
	if req.Quiesce && vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn &&
		vm.Guest.ToolsRunningStatus != string(types.VirtualMachineToolsRunningStatusGuestToolsRunning) {
		return nil, &types.ApplicationQuiesceFault{}
	}
	snap := &VirtualMachineSnapshot{sim: s, name: req.Name, frozen: map[int32]string{}}
	snap.Vm = vm.Self
	ctx.Map.Put(snap)
	if vm.Snapshot != nil && vm.Snapshot.CurrentSnapshot != nil {
		snap.delta = ctx.Map.Get(*vm.Snapshot.CurrentSnapshot).(*VirtualMachineSnapshot).above
	}
	s.mu.Lock()
	state := s.vms[vm.Self]
	state.nextSnap++
	snap.above = state.nextSnap
	id := state.nextSnap
	var failed error
	for key, d := range state.disks {
		if d.apart {
			continue
		}
		snap.frozen[key] = fmt.Sprintf("%s/%s-%d.%s.img", s.dir, vm.Name, key, snap.Self.Value)
		if err := d.freeze(snap.frozen[key]); err != nil && failed == nil {
			failed = err
		}
	}
	s.mu.Unlock()
	if failed != nil {
		log.Print(failed)
		snap.forget()
		ctx.Map.Remove(ctx, snap.Self)
		return nil, &types.FileFault{File: vm.Name}
	}
	s.refresh(ctx, vm)
	snap.Config = *vm.Config
	snap.Config.Hardware.Device = append([]types.BaseVirtualDevice(nil), vm.Config.Hardware.Device...)
	s.remember(snap)

	item := types.VirtualMachineSnapshotTree{Snapshot: snap.Self, Vm: vm.Self, Name: req.Name, Description: req.Description,
		Id: id, CreateTime: time.Now().UTC(), State: vm.Runtime.PowerState, Quiesced: req.Quiesce,
		ReplaySupported: types.NewBool(false)}
	var roots []types.VirtualMachineSnapshotTree
	if vm.Snapshot != nil {
		roots = addToTree(vm.Snapshot.RootSnapshotList, *vm.Snapshot.CurrentSnapshot, item)
	} else {
		roots = []types.VirtualMachineSnapshotTree{item}
	}
	s.setTree(ctx, vm, roots, &snap.Self)
	return snap.Self, nil
}

// setTree makes ROOTS the VM's snapshots.
func (s *sim) setTree(ctx *simulator.Context, vm *simulator.VirtualMachine, roots []types.VirtualMachineSnapshotTree, current *types.ManagedObjectReference) {
	if len(roots) == 0 {
		ctx.Map.Update(ctx, vm, []types.PropertyChange{{Name: "snapshot", Val: nil}, {Name: "rootSnapshot", Val: nil}})
	} else {
		var refs []types.ManagedObjectReference
		for _, r := range roots {
			refs = append(refs, r.Snapshot)
		}
		ctx.Map.Update(ctx, vm, []types.PropertyChange{
			{Name: "snapshot", Val: types.VirtualMachineSnapshotInfo{CurrentSnapshot: current, RootSnapshotList: roots}},
			{Name: "rootSnapshot", Val: refs}})
	}
	s.refresh(ctx, vm)
}

func (v *VirtualMachineSnapshot) forget() {
	for _, file := range v.frozen {
		os.Remove(file)
	}
}

func (v *VirtualMachineSnapshot) RemoveSnapshotTask(ctx *simulator.Context, req *types.RemoveSnapshot_Task) soap.HasFault {
	body := &methods.RemoveSnapshot_TaskBody{}
	vm := ctx.Map.Get(v.Vm).(*simulator.VirtualMachine)
	ref, f := started(v.sim.start(vm, "RemoveSnapshot_Task", req, func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
		if vm.Snapshot == nil || ctx.Map.Get(v.Self) == nil {
			return nil, &types.ManagedObjectNotFound{Obj: v.Self}
		}
		parent, roots, removed := removeFromTree(vm.Snapshot.RootSnapshotList, v.Self, req.RemoveChildren, nil)
		current := vm.Snapshot.CurrentSnapshot
		for _, ref := range removed {
			if *current == ref {
				current = parent
			}
		}
		v.sim.stunned(vm.Self)
		v.sim.mu.Lock()
		state := v.sim.vms[vm.Self]
		left := state.leaveDeltas
		state.leaveDeltas = false
		v.sim.mu.Unlock()
		for _, ref := range removed {
			if !v.sim.keep {
				ctx.Map.Get(ref).(*VirtualMachineSnapshot).forget()
			}
			v.sim.forgotten(ref.Value)
			ctx.Map.Remove(ctx, ref)
		}
		v.sim.setTree(ctx, vm, roots, current)
		if left {
			ctx.Map.Update(ctx, vm, []types.PropertyChange{{Name: "runtime.consolidationNeeded", Val: true}})
		}
		return nil, nil
	}))
	if body.Fault_ = f; f == nil {
		body.Res = &types.RemoveSnapshot_TaskResponse{Returnval: ref}
	}
	return body
}

func (m *machine) ConsolidateVMDisksTask(_ *simulator.Context, req *types.ConsolidateVMDisks_Task) soap.HasFault {
	body := &methods.ConsolidateVMDisks_TaskBody{}
	ref, f := started(m.sim.start(m.VirtualMachine, "ConsolidateVMDisks_Task", req, func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
		ctx.Map.Update(ctx, m.VirtualMachine, []types.PropertyChange{{Name: "runtime.consolidationNeeded", Val: false}})
		return nil, nil
	}))
	if body.Fault_ = f; f == nil {
		body.Res = &types.ConsolidateVMDisks_TaskResponse{Returnval: ref}
	}
	return body
}

// addToTree copies LIST with ITEM below PARENT.
func addToTree(list []types.VirtualMachineSnapshotTree, parent types.ManagedObjectReference, item types.VirtualMachineSnapshotTree) []types.VirtualMachineSnapshotTree {
	var out []types.VirtualMachineSnapshotTree
	for _, t := range list {
		t.ChildSnapshotList = addToTree(t.ChildSnapshotList, parent, item)
		if t.Snapshot == parent {
			t.ChildSnapshotList = append(t.ChildSnapshotList, item)
		}
		out = append(out, t)
	}
	return out
}

// removeFromTree copies LIST without REF, whose children move up unless they go, too. It gives REF's parent and all that
// is removed.
func removeFromTree(list []types.VirtualMachineSnapshotTree, ref types.ManagedObjectReference, children bool, above *types.ManagedObjectReference) (parent *types.ManagedObjectReference, out []types.VirtualMachineSnapshotTree, removed []types.ManagedObjectReference) {
	for _, t := range list {
		if t.Snapshot == ref {
			parent, removed = above, append(removed, ref)
			if children {
				removed = append(removed, allBelow(t.ChildSnapshotList)...)
			} else {
				out = append(out, t.ChildSnapshotList...)
			}
			continue
		}
		self := t.Snapshot
		p, rest, gone := removeFromTree(t.ChildSnapshotList, ref, children, &self)
		if len(gone) > 0 {
			parent, removed = p, append(removed, gone...)
		}
		t.ChildSnapshotList = rest
		out = append(out, t)
	}
	return parent, out, removed
}

func allBelow(list []types.VirtualMachineSnapshotTree) (all []types.ManagedObjectReference) {
	for _, t := range list {
		all = append(append(all, t.Snapshot), allBelow(t.ChildSnapshotList)...)
	}
	return all
}
