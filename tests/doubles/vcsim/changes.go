// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

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
