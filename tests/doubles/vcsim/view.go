// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

type diskView struct {
	Key      int32  `json:"key"`
	Image    string `json:"image"`
	Capacity int64  `json:"capacity"`
	File     string `json:"file"`
	ChangeID string `json:"change_id"`
}

type snapshotView struct {
	Moref    string           `json:"moref"`
	Name     string           `json:"name"`
	Parent   string           `json:"parent"`
	Quiesced bool             `json:"quiesced"`
	Created  time.Time        `json:"created"`
	Frozen   map[int32]string `json:"frozen"`
	Files    map[int32]string `json:"files"`
	IDs      map[int32]string `json:"change_ids"`
}

type vmView struct {
	Name          string         `json:"name"`
	Moref         string         `json:"moref"`
	UUID          string         `json:"uuid"`
	Host          string         `json:"host"`
	Power         string         `json:"power"`
	Tracking      string         `json:"tracking"`
	Consolidation bool           `json:"consolidation_needed"`
	Annotation    string         `json:"annotation"`
	Disks         []diskView     `json:"disks"`
	Snapshots     []snapshotView `json:"snapshots"`
}

func (s *sim) describe() []vmView {
	list := []vmView{}
	ctx := s.background()
	for _, e := range s.ctx.Map.All("VirtualMachine") {
		vm := e.(*simulator.VirtualMachine)
		ctx.Map.WithLock(ctx, vm.Self, func() { list = append(list, s.describeVM(vm)) })
	}
	return list
}

func (s *sim) describeVM(vm *simulator.VirtualMachine) vmView {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.vms[vm.Self]
	v := vmView{Name: vm.Name, Moref: vm.Self.Value, UUID: vm.Config.InstanceUuid, Power: string(vm.Runtime.PowerState),
		Tracking: state.tracking, Annotation: vm.Config.Annotation, Disks: []diskView{}, Snapshots: []snapshotView{},
		Consolidation: vm.Runtime.ConsolidationNeeded != nil && *vm.Runtime.ConsolidationNeeded}
	v.Host = s.objectName(*vm.Runtime.Host)
	for _, d := range vm.Config.Hardware.Device {
		if disk, ok := d.(*types.VirtualDisk); ok && state.disks[disk.Key] != nil {
			v.Disks = append(v.Disks, diskView{disk.Key, state.disks[disk.Key].image, disk.CapacityInBytes, backingFile(disk), changeID(disk)})
		}
	}
	var walk func(list []types.VirtualMachineSnapshotTree, parent string)
	walk = func(list []types.VirtualMachineSnapshotTree, parent string) {
		for _, t := range list {
			snap, ok := s.ctx.Map.Get(t.Snapshot).(*VirtualMachineSnapshot)
			if !ok {
				continue
			}
			view := snapshotView{Moref: t.Snapshot.Value, Name: t.Name, Parent: parent, Quiesced: t.Quiesced, Created: t.CreateTime,
				Frozen: snap.frozen, Files: map[int32]string{}, IDs: map[int32]string{}}
			for _, d := range snap.Config.Hardware.Device {
				if disk, ok := d.(*types.VirtualDisk); ok {
					view.Files[disk.Key], view.IDs[disk.Key] = backingFile(disk), changeID(disk)
				}
			}
			v.Snapshots = append(v.Snapshots, view)
			walk(t.ChildSnapshotList, t.Snapshot.Value)
		}
	}
	if vm.Snapshot != nil {
		walk(vm.Snapshot.RootSnapshotList, "")
	}
	return v
}
