// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// What people do to a VM while it is being migrated.

// addDisk adds the disk of the order.
func (s *sim) addDisk(o *order) error {
	vm, state, err := s.find(o.VM)
	if err != nil {
		return err
	}
	ctx := s.background()
	ctx.Map.WithLock(ctx, vm.Self, func() {
		s.mu.Lock()
		err = s.addDiskTo(vm, state, vmSpec{Name: vm.Name}, o.Disk, len(state.disks), s.objectName(vm.Datastore[0]))
		if err == nil && state.tracking == "on" {
			for _, d := range state.disks {
				if d.epoch == "" {
					err = d.startTracking()
				}
			}
		}
		s.mu.Unlock()
		s.refresh(ctx, vm)
	})
	return err
}

// removeDisk takes a disk away from a VM without snapshots.
func (s *sim) removeDisk(o *order) error {
	vm, state, err := s.find(o.VM)
	if err != nil {
		return err
	}
	if vm.Snapshot != nil {
		return errors.New("a disk is removed without snapshots only")
	}
	ctx := s.background()
	ctx.Map.WithLock(ctx, vm.Self, func() {
		var left []types.BaseVirtualDevice
		for _, d := range vm.Config.Hardware.Device {
			if d.GetVirtualDevice().Key != o.Key {
				left = append(left, d)
			}
		}
		s.mu.Lock()
		delete(state.disks, o.Key)
		s.mu.Unlock()
		ctx.Map.Update(ctx, vm, []types.PropertyChange{{Name: "config.hardware.device", Val: left}})
		s.refresh(ctx, vm)
	})
	return nil
}

// takeSnapshot is somebody else's.
func (s *sim) takeSnapshot(o *order) error {
	vm, _, err := s.find(o.VM)
	if err != nil {
		return err
	}
	return s.snapshotNow(vm, o.Name)
}

func (s *sim) snapshotNow(vm *simulator.VirtualMachine, name string) (err error) {
	ctx := s.background()
	ctx.Map.WithLock(ctx, vm.Self, func() {
		if _, f := s.createSnapshot(ctx, vm, &types.CreateSnapshot_Task{This: vm.Self, Name: name}); f != nil {
			err = fmt.Errorf("snapshot %q: %T", name, f)
		}
	})
	return err
}

// resetTracking gives the VM's disks new tracking epochs, as a crash of the host does.
func (s *sim) resetTracking(o *order) error {
	vm, state, err := s.find(o.VM)
	if err != nil {
		return err
	}
	s.mu.Lock()
	for _, d := range state.disks {
		if d.epoch != "" {
			if e := d.startTracking(); e != nil {
				err = e
			}
		}
	}
	s.mu.Unlock()
	s.refreshNow(vm)
	return err
}

func (s *sim) refreshNow(vm *simulator.VirtualMachine) {
	ctx := s.background()
	ctx.Map.WithLock(ctx, vm.Self, func() { s.refresh(ctx, vm) })
}

// changeDisk grows a disk, or moves its file as Storage vMotion does.
func (s *sim) changeDisk(o *order) error {
	d, err := s.disk(o.VM, o.Key)
	if err != nil {
		return err
	}
	vm, _, _ := s.find(o.VM)
	if o.Capacity != 0 {
		if vm.Snapshot != nil || o.Capacity < d.size() {
			return errors.New("a disk grows only, and only without snapshots")
		}
		if err := os.Truncate(d.image, o.Capacity); err != nil {
			return err
		}
	}
	if o.File != "" {
		move := func(devices []types.BaseVirtualDevice) []types.BaseVirtualDevice {
			out := append([]types.BaseVirtualDevice(nil), devices...)
			for i, v := range out {
				if old, ok := v.(*types.VirtualDisk); ok && old.Key == o.Key {
					name := o.File
					if m := deltaSuffix.FindStringSubmatch(backingFile(old)); m != nil {
						name = deltaSuffix.ReplaceAllString(o.File, m[1]+".vmdk")
					}
					out[i] = withBacking(old, old.CapacityInBytes, changeID(old), name, "")
				}
			}
			return out
		}
		ctx := s.background()
		for _, e := range s.ctx.Map.AllReference("VirtualMachineSnapshot") {
			if snap, ok := e.(*VirtualMachineSnapshot); ok && snap.Vm == vm.Self {
				ctx.Map.WithLock(ctx, snap.Self, func() { snap.Config.Hardware.Device = move(snap.Config.Hardware.Device) })
			}
		}
		ctx.Map.WithLock(ctx, vm.Self, func() {
			ctx.Map.Update(ctx, vm, []types.PropertyChange{{Name: "config.hardware.device", Val: move(vm.Config.Hardware.Device)}})
		})
	}
	s.refreshNow(vm)
	return nil
}

// changeVM changes power, tools, how long the guest takes to shut down, and whether a removal leaves delta disks.
func (s *sim) changeVM(o *order) error {
	vm, state, err := s.find(o.VM)
	if err != nil {
		return err
	}
	s.mu.Lock()
	if o.Shutdown != nil {
		state.shutdown = *o.Shutdown
	}
	if o.Deltas != nil {
		state.leaveDeltas = *o.Deltas
	}
	s.mu.Unlock()
	ctx := s.background()
	ctx.Map.WithLock(ctx, vm.Self, func() {
		if o.Power != "" {
			to := map[string]types.VirtualMachinePowerState{"on": "poweredOn", "off": "poweredOff", "suspended": "suspended"}[o.Power]
			if to == "" {
				err = fmt.Errorf("power %q: on, off or suspended", o.Power)
			} else if f := s.power(ctx, vm, to); f != nil {
				err = fmt.Errorf("%T", f)
			}
		}
		if o.Tools != "" {
			ctx.Map.Update(ctx, vm, []types.PropertyChange{{Name: "guest.toolsRunningStatus", Val: o.Tools}})
		}
	})
	return err
}
