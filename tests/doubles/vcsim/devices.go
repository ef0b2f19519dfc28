// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"syscall"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

var deltaSuffix = regexp.MustCompile(`(-[0-9]{6})?\.vmdk$`)

// Devices are replaced, never changed: snapshots share them.

// withConnection copies a device and gives the copy another connection state.
func withConnection(d types.BaseVirtualDevice, c types.VirtualDeviceConnectInfo) types.BaseVirtualDevice {
	next := reflect.New(reflect.TypeOf(d).Elem())
	next.Elem().Set(reflect.ValueOf(d).Elem())
	device := next.Interface().(types.BaseVirtualDevice)
	device.GetVirtualDevice().Connectable = &c
	return device
}

// withBacking copies a disk with SIZE, CHANGEID and FILE, whose parent is PARENT ("": none).
func withBacking(old *types.VirtualDisk, size int64, changeID, file, parent string) *types.VirtualDisk {
	next := *old
	next.CapacityInBytes, next.CapacityInKB = size, size/1024
	switch b := old.Backing.(type) {
	case *types.VirtualDiskFlatVer2BackingInfo:
		nb := *b
		nb.ChangeId, nb.FileName, nb.Parent = changeID, file, nil
		if parent != "" {
			nb.Parent = &types.VirtualDiskFlatVer2BackingInfo{VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{
				FileName: parent, Datastore: b.Datastore}, DiskMode: b.DiskMode}
		}
		next.Backing = &nb
	case *types.VirtualDiskRawDiskMappingVer1BackingInfo:
		nb := *b
		nb.ChangeId, nb.FileName = changeID, file
		next.Backing = &nb
	}
	return &next
}

func backingFile(d *types.VirtualDisk) string {
	if b, ok := d.Backing.(types.BaseVirtualDeviceFileBackingInfo); ok {
		return b.GetVirtualDeviceFileBackingInfo().FileName
	}
	return ""
}

// delta is the name of the N-th delta disk of FILE; 0: the base.
func delta(file string, n int32) string {
	if n == 0 {
		return deltaSuffix.ReplaceAllString(file, ".vmdk")
	}
	return deltaSuffix.ReplaceAllString(file, fmt.Sprintf("-%06d.vmdk", n))
}

// refresh writes sizes, change ids and file names of the VM's disks, and its used space, as they are now; the VM is
// locked on behalf of CTX.
func (s *sim) refresh(ctx *simulator.Context, vm *simulator.VirtualMachine) {
	var chain []int32
	if vm.Snapshot != nil && vm.Snapshot.CurrentSnapshot != nil {
		if snap, ok := ctx.Map.Get(*vm.Snapshot.CurrentSnapshot).(*VirtualMachineSnapshot); ok {
			chain = []int32{snap.delta, snap.above}
		}
	}
	s.mu.Lock()
	state := s.vms[vm.Self]
	devices := append([]types.BaseVirtualDevice(nil), vm.Config.Hardware.Device...)
	var committed, capacity int64
	for i, d := range devices {
		old, ok := d.(*types.VirtualDisk)
		if !ok || state.disks[old.Key] == nil {
			continue
		}
		disk := state.disks[old.Key]
		file, parent := delta(backingFile(old), 0), ""
		if chain != nil && !disk.apart {
			file, parent = delta(file, chain[1]), delta(file, chain[0])
		}
		devices[i] = withBacking(old, disk.size(), disk.changeID(), file, parent)
		committed += usedBytes(disk.image)
		capacity += disk.size()
	}
	s.mu.Unlock()
	ctx.Map.Update(ctx, vm, []types.PropertyChange{{Name: "config.hardware.device", Val: devices},
		{Name: "summary.storage", Val: types.VirtualMachineStorageSummary{Committed: committed,
			Uncommitted: max(0, capacity-committed), Unshared: committed, Timestamp: vm.Summary.Storage.Timestamp}}})
}

func usedBytes(path string) int64 {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return 0
	}
	return st.Blocks * 512
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func sameJSON(a, b any) bool {
	x, err := json.Marshal(a)
	if err != nil {
		return false
	}
	y, err := json.Marshal(b)
	return err == nil && bytes.Equal(x, y)
}

func asDisk(d types.BaseVirtualDevice) (*types.VirtualDisk, bool) {
	disk, ok := d.(*types.VirtualDisk)
	return disk, ok
}
