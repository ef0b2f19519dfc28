// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// QueryChangedDiskAreas answers with at most maxAreas areas, and says how far they reach.
func (m *machine) QueryChangedDiskAreas(ctx *simulator.Context, req *types.QueryChangedDiskAreas) soap.HasFault {
	body := &methods.QueryChangedDiskAreasBody{}
	bad := func(f types.BaseMethodFault, message string) soap.HasFault {
		body.Fault_ = fault(f, message)
		return body
	}
	if req.Snapshot == nil {
		return bad(&types.FileFault{File: m.Name}, "Error caused by file "+m.Name)
	}
	snap, ok := ctx.Map.Get(*req.Snapshot).(*VirtualMachineSnapshot)
	if !ok {
		return bad(&types.ManagedObjectNotFound{Obj: *req.Snapshot}, "The object has already been deleted or has not been completely created")
	}
	if snap.Vm != m.Self {
		return bad(&types.InvalidArgument{InvalidProperty: "snapshot"}, "A specified parameter was not correct: snapshot")
	}
	d, ok := object.VirtualDeviceList(snap.Config.Hardware.Device).FindByKey(req.DeviceKey).(*types.VirtualDisk)
	if !ok {
		return bad(&types.InvalidArgument{InvalidProperty: "deviceKey"}, "A specified parameter was not correct: deviceKey")
	}
	id := changeID(d)
	if id == "" {
		return bad(&types.FileFault{File: backingFile(d)}, "Change tracking is not active on "+backingFile(d))
	}
	if req.StartOffset < 0 || req.StartOffset >= d.CapacityInBytes {
		return bad(&types.InvalidArgument{InvalidProperty: "startOffset"}, "A specified parameter was not correct: startOffset")
	}
	epoch, to, _ := splitID(id)
	s := m.sim
	s.mu.Lock()
	defer s.mu.Unlock()
	disk := s.vms[m.Self].disks[req.DeviceKey]
	var areas []extent
	if req.ChangeId == "*" {
		f, err := os.Open(snap.frozen[req.DeviceKey])
		if err != nil {
			return bad(&types.FileFault{File: backingFile(d)}, err.Error())
		}
		defer f.Close()
		if areas, err = allocated(f); err != nil {
			return bad(&types.FileFault{File: backingFile(d)}, err.Error())
		}
		areas = merge(areas, s.grain, d.CapacityInBytes)
	} else {
		e, from, err := splitID(req.ChangeId)
		if err != nil || e != epoch || from > to || disk.epoch != epoch {
			return bad(&types.InvalidArgument{InvalidProperty: "changeId"}, "A specified parameter was not correct: changeId")
		}
		areas = disk.areas(from, to, s.grain, d.CapacityInBytes)
	}
	info := types.DiskChangeInfo{StartOffset: req.StartOffset, Length: d.CapacityInBytes - req.StartOffset}
	for _, a := range areas {
		if a.end() <= req.StartOffset {
			continue
		}
		from := max(a.Offset, req.StartOffset)
		if len(info.ChangedArea) == s.maxAreas {
			info.Length = from - req.StartOffset
			break
		}
		info.ChangedArea = append(info.ChangedArea, types.DiskChangeExtent{Start: from, Length: a.end() - from})
	}
	said := answer{m.Name, req.DeviceKey, req.Snapshot.Value, req.ChangeId, req.StartOffset, []extent{}}
	for _, a := range info.ChangedArea {
		said.Areas = append(said.Areas, extent{a.Start, a.Length})
	}
	s.past.Answers = append(s.past.Answers, said)
	body.Res = &types.QueryChangedDiskAreasResponse{Returnval: info}
	return body
}

// changeIDOf gives the change id of the disk KEY; "" when there is none.
func changeIDOf(devices []types.BaseVirtualDevice, key int32) string {
	if d, ok := object.VirtualDeviceList(devices).FindByKey(key).(*types.VirtualDisk); ok {
		return changeID(d)
	}
	return ""
}

func changeID(d *types.VirtualDisk) string {
	switch b := d.Backing.(type) {
	case *types.VirtualDiskFlatVer2BackingInfo:
		return b.ChangeId
	case *types.VirtualDiskRawDiskMappingVer1BackingInfo:
		return b.ChangeId
	}
	return ""
}
