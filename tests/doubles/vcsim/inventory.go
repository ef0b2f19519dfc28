// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// What a test wants to exist. Left out is a plain Linux VM with one disk that change tracking can follow.
type inventorySpec struct {
	VMs        []vmSpec        `json:"vms"`
	Datastores []datastoreSpec `json:"datastores"`
}

type datastoreSpec struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Capacity int64  `json:"capacity"`
	Free     int64  `json:"free"`
	Lost     bool   `json:"lost"` // not accessible
}

type diskSpec struct {
	Key       int32  `json:"key"`
	Unit      int32  `json:"unit"`
	Label     string `json:"label"`
	Capacity  int64  `json:"capacity"`
	Image     string `json:"image"` // a file that exists; else an empty one is made
	File      string `json:"file"`  // "[datastore] dir/file.vmdk"
	Datastore string `json:"datastore"`
	Mode      string `json:"mode"` // persistent, independent_persistent, ...
	Sharing   string `json:"sharing"`
	Thin      bool   `json:"thin"`
	Eager     bool   `json:"eager"`
	RDM       bool   `json:"rdm"`
	Encrypted bool   `json:"encrypted"`
}

type nicSpec struct {
	MAC       string   `json:"mac"`
	Network   string   `json:"network"`
	Addresses []string `json:"addresses"`
}

type vmSpec struct {
	Name        string     `json:"name"`
	Disks       []diskSpec `json:"disks"`
	NICs        []nicSpec  `json:"nics"`
	Firmware    string     `json:"firmware"`
	SecureBoot  bool       `json:"secure_boot"`
	VTPM        bool       `json:"vtpm"`
	Version     string     `json:"version"`
	GuestID     string     `json:"guest_id"`
	GuestFamily string     `json:"guest_family"`
	GuestName   string     `json:"guest_full_name"`
	HostName    string     `json:"host_name"`
	Tools       string     `json:"tools"`         // guestToolsRunning, guestToolsNotRunning
	ToolsState  string     `json:"tools_version"` // guestToolsCurrent, guestToolsNotInstalled, ...
	Power       string     `json:"power"`         // on, off, suspended
	Snapshots   []string   `json:"snapshots"`
	Encrypted   bool       `json:"encrypted"`
	Tracking    bool       `json:"tracking"` // enabled and begun
	Template    bool       `json:"template"`
	Host        string     `json:"host"`
	CPUs        int32      `json:"cpus"`
	MemoryMB    int64      `json:"memory_mb"`
	Shutdown    int        `json:"shutdown_ms"`
	Annotation  string     `json:"annotation"`
	Tolerant    bool       `json:"fault_tolerant"`
	Passthrough bool       `json:"pci_passthrough"`
	Connection  string     `json:"connection"` // connected, disconnected, inaccessible, ...
}

func readInventory(path string) (*inventorySpec, error) {
	wanted := &inventorySpec{}
	if path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(wanted); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	if len(wanted.Datastores) == 0 {
		wanted.Datastores = []datastoreSpec{{Name: "datastore1"}}
	}
	return wanted, nil
}

func (s *sim) build(wanted *inventorySpec, addresses string) error {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	if addresses != "" {
		for i, address := range strings.Split(addresses, ",") {
			if e := s.entity("HostSystem", fmt.Sprintf("DC0_C0_H%d", i)); e != nil {
				host := e.(*simulator.HostSystem)
				host.Name, host.Summary.Config.Name = address, address
			}
		}
	}
	for i, d := range wanted.Datastores {
		ds := s.entity("Datastore", fmt.Sprintf("LocalDS_%d", i)).(*simulator.Datastore)
		ds.Name, ds.Summary.Name, ds.Info.GetDatastoreInfo().Name = d.Name, d.Name, d.Name
		ds.Summary.Type, ds.Summary.Accessible = either(d.Type, "VMFS"), !d.Lost
		ds.Summary.Capacity = either(d.Capacity, 1<<40)
		ds.Summary.FreeSpace = either(d.Free, ds.Summary.Capacity/2)
		ds.Info.GetDatastoreInfo().FreeSpace = ds.Summary.FreeSpace
	}
	client, err := vim25.NewClient(context.Background(), s.service)
	if err != nil {
		return err
	}
	for _, v := range wanted.VMs {
		if err := s.addVM(client, v, wanted.Datastores[0].Name); err != nil {
			return fmt.Errorf("VM %q: %w", v.Name, err)
		}
	}
	return nil
}

func (s *sim) entity(kind, name string) any {
	for _, e := range s.ctx.Map.All(kind) {
		if e.Entity().Name == name {
			return e
		}
	}
	return nil
}

func either[T comparable](value, otherwise T) T {
	var none T
	if value == none {
		return otherwise
	}
	return value
}

func (s *sim) addVM(client *vim25.Client, v vmSpec, datastore string) error {
	ctx := context.Background()
	dc := s.entity("Datacenter", "DC0").(*simulator.Datacenter)
	cluster := s.entity("ClusterComputeResource", "DC0_C0").(*simulator.ClusterComputeResource)
	host, ok := s.entity("HostSystem", v.Host).(*simulator.HostSystem)
	if !ok {
		if v.Host != "" {
			return fmt.Errorf("no host %q", v.Host)
		}
		host = s.ctx.Map.Get(cluster.Host[0]).(*simulator.HostSystem)
	}
	spec := types.VirtualMachineConfigSpec{Name: v.Name, GuestId: either(v.GuestID, "debian12_64Guest"),
		NumCPUs: either(v.CPUs, 2), MemoryMB: either(v.MemoryMB, 2048), Version: either(v.Version, "vmx-19"),
		Firmware: either(v.Firmware, "bios"), Annotation: v.Annotation, Files: &types.VirtualMachineFileInfo{VmPathName: "[" + datastore + "]"}}
	folder := object.NewFolder(client, dc.VmFolder)
	task, err := folder.CreateVM(ctx, spec, object.NewResourcePool(client, *cluster.ResourcePool), object.NewHostSystem(client, host.Self))
	if err != nil {
		return err
	}
	info, err := task.WaitForResult(ctx)
	if err != nil {
		return err
	}
	vm := s.ctx.Map.Get(info.Result.(types.ManagedObjectReference)).(*simulator.VirtualMachine)
	return s.furnish(vm, v, datastore)
}

// furnish gives a new VM its devices, guest and state.
func (s *sim) furnish(vm *simulator.VirtualMachine, v vmSpec, datastore string) error {
	state := &vmState{tracking: "off", disks: map[int32]*disk{}, shutdown: either(v.Shutdown, 500)}
	s.vms[vm.Self] = state
	supported := true
	vm.Capability.ChangeTrackingSupported = &supported
	if n := 0; true {
		_, _ = fmt.Sscanf(vm.Config.Version, "vmx-%d", &n)
		supported = n >= 7
	}
	tracking := false
	vm.Config.ChangeTrackingEnabled = &tracking
	vm.Config.BootOptions = &types.VirtualMachineBootOptions{EfiSecureBootEnabled: &v.SecureBoot}
	vm.Config.GuestFullName = either(v.GuestName, "Debian GNU/Linux 12 (64-bit)")
	vm.Config.Template, vm.Summary.Config.Template = v.Template, v.Template
	no := false
	vm.Runtime.ConsolidationNeeded = &no
	if v.Encrypted {
		vm.Config.KeyId = &types.CryptoKeyId{KeyId: "key-1", ProviderId: &types.KeyProviderId{Id: "kms"}}
	}
	power := map[string]types.VirtualMachinePowerState{"": "poweredOn", "on": "poweredOn", "off": "poweredOff", "suspended": "suspended"}[v.Power]
	if power == "" {
		return fmt.Errorf("power %q: on, off or suspended", v.Power)
	}
	vm.Runtime.PowerState, vm.Summary.Runtime.PowerState = power, power
	on := power == types.VirtualMachinePowerStatePoweredOn
	tools := either(v.Tools, map[bool]string{true: "guestToolsRunning", false: "guestToolsNotRunning"}[on])
	vm.Guest = &types.GuestInfo{ToolsRunningStatus: tools, ToolsVersionStatus2: either(v.ToolsState, "guestToolsUnmanaged"),
		GuestFamily: either(v.GuestFamily, "linuxGuest"), GuestId: vm.Config.GuestId, GuestFullName: vm.Config.GuestFullName,
		HostName: v.HostName, GuestState: map[bool]string{true: "running", false: "notRunning"}[on]}

	if err := s.addDisks(vm, state, v, datastore); err != nil {
		return err
	}
	if err := s.addNICs(vm, v, on); err != nil {
		return err
	}
	if v.VTPM {
		vm.Config.Hardware.Device = append(vm.Config.Hardware.Device, &types.VirtualTPM{VirtualDevice: types.VirtualDevice{
			Key: 11000, DeviceInfo: &types.Description{Label: "Virtual TPM"}}})
	}
	if v.Passthrough {
		vm.Config.Hardware.Device = append(vm.Config.Hardware.Device, &types.VirtualPCIPassthrough{VirtualDevice: types.VirtualDevice{
			Key: 13000, DeviceInfo: &types.Description{Label: "PCI device 0"}}})
	}
	vm.Runtime.FaultToleranceState = types.VirtualMachineFaultToleranceStateNotConfigured
	if v.Tolerant {
		vm.Runtime.FaultToleranceState = types.VirtualMachineFaultToleranceStateRunning
	}
	if v.Connection != "" {
		vm.Runtime.ConnectionState = types.VirtualMachineConnectionState(v.Connection)
	}
	ctx := s.background()
	if v.Tracking {
		tracking, state.tracking = true, "pending"
		s.stunned(vm.Self)
	}
	s.refresh(ctx, vm)
	for _, name := range v.Snapshots {
		if _, f := s.createSnapshot(ctx, vm, &types.CreateSnapshot_Task{This: vm.Self, Name: name}); f != nil {
			return fmt.Errorf("snapshot %q: %T", name, f)
		}
	}
	return nil
}

func (s *sim) addDisks(vm *simulator.VirtualMachine, state *vmState, v vmSpec, datastore string) error {
	scsi := &types.ParaVirtualSCSIController{VirtualSCSIController: types.VirtualSCSIController{
		SharedBus: types.VirtualSCSISharingNoSharing, VirtualController: types.VirtualController{
			VirtualDevice: types.VirtualDevice{Key: controllerKey, DeviceInfo: &types.Description{Label: "SCSI controller 0"}}}}}
	var devices []types.BaseVirtualDevice
	for _, d := range vm.Config.Hardware.Device {
		if key := d.GetVirtualDevice().Key; key != controllerKey && (key < 2000 || key >= 3000) {
			devices = append(devices, d)
		}
	}
	vm.Config.Hardware.Device = append(devices, scsi)
	vm.Datastore = nil
	for i, d := range v.Disks {
		if err := s.addDiskTo(vm, state, v, d, i, datastore); err != nil {
			return err
		}
	}
	return nil
}

const controllerKey = 1000

// addDiskTo makes the I-th disk of a VM.
func (s *sim) addDiskTo(vm *simulator.VirtualMachine, state *vmState, v vmSpec, d diskSpec, i int, datastore string) error {
	key, unit := either(d.Key, int32(2000+i)), either(d.Unit, int32(i))
	ds, ok := s.entity("Datastore", either(d.Datastore, datastore)).(*simulator.Datastore)
	if !ok {
		return fmt.Errorf("no datastore %q", d.Datastore)
	}
	suffix := ""
	if i > 0 {
		suffix = fmt.Sprintf("_%d", i)
	}
	info := types.VirtualDeviceFileBackingInfo{Datastore: &ds.Self,
		FileName: either(d.File, fmt.Sprintf("[%s] %s/%s%s.vmdk", ds.Name, v.Name, v.Name, suffix))}
	uuid := fmt.Sprintf("6000C29%x-%04x-4000-8000-%012x", i%16, key, hash(v.Name))
	disk := &types.VirtualDisk{VirtualDevice: types.VirtualDevice{Key: key, ControllerKey: controllerKey, UnitNumber: &unit,
		DeviceInfo: &types.Description{Label: either(d.Label, fmt.Sprintf("Hard disk %d", i+1))}}}
	if d.RDM {
		disk.Backing = &types.VirtualDiskRawDiskMappingVer1BackingInfo{VirtualDeviceFileBackingInfo: info, Uuid: uuid,
			CompatibilityMode: "physicalMode", DiskMode: either(d.Mode, "independent_persistent"), Sharing: d.Sharing}
	} else {
		b := &types.VirtualDiskFlatVer2BackingInfo{VirtualDeviceFileBackingInfo: info, Uuid: uuid,
			DiskMode: either(d.Mode, "persistent"), Sharing: either(d.Sharing, "sharingNone"),
			ThinProvisioned: &d.Thin, EagerlyScrub: &d.Eager}
		if d.Encrypted || v.Encrypted {
			b.KeyId = &types.CryptoKeyId{KeyId: "key-1", ProviderId: &types.KeyProviderId{Id: "kms"}}
		}
		disk.Backing = b
	}
	image := &diskFile{path: d.Image, capacity: d.Capacity}
	path, err := image.make(fmt.Sprintf("%s/%s-%d.img", s.dir, v.Name, key))
	if err != nil {
		return err
	}
	state.disks[key] = newDisk(v.Name, key, path)
	state.disks[key].apart = d.RDM || strings.HasPrefix(d.Mode, "independent")
	disk.CapacityInBytes, disk.CapacityInKB = state.disks[key].size(), state.disks[key].size()/1024
	devices := append([]types.BaseVirtualDevice(nil), vm.Config.Hardware.Device...)
	for n, o := range devices {
		if c, ok := o.(*types.ParaVirtualSCSIController); ok {
			next := *c
			next.Device = append(append([]int32(nil), c.Device...), key)
			devices[n] = &next
		}
	}
	vm.Config.Hardware.Device = append(devices, disk)
	if !contains(vm.Datastore, ds.Self) {
		vm.Datastore = append(vm.Datastore, ds.Self)
	}
	return nil
}

func contains(list []types.ManagedObjectReference, ref types.ManagedObjectReference) bool {
	for _, r := range list {
		if r == ref {
			return true
		}
	}
	return false
}

func (s *sim) addNetwork(name string) types.ManagedObjectReference {
	dc := s.entity("Datacenter", "DC0").(*simulator.Datacenter)
	net := &mo.Network{}
	net.Name, net.Summary = name, &types.NetworkSummary{Name: name, Accessible: true}
	s.ctx.Map.PutEntity(s.ctx.Map.Get(dc.NetworkFolder).(mo.Entity), net)
	return net.Self
}

func (s *sim) addNICs(vm *simulator.VirtualMachine, v vmSpec, on bool) error {
	vm.Network = nil
	for i, n := range v.NICs {
		name := either(n.Network, "VM Network")
		var ref types.ManagedObjectReference
		if net, ok := s.entity("Network", name).(interface {
			Reference() types.ManagedObjectReference
		}); ok {
			ref = net.Reference()
		} else {
			ref = s.addNetwork(name)
		}
		key, unit := int32(4000+i), int32(7+i)
		nic := &types.VirtualVmxnet3{}
		nic.Key, nic.UnitNumber, nic.ControllerKey = key, &unit, 100
		nic.DeviceInfo = &types.Description{Label: fmt.Sprintf("Network adapter %d", i+1), Summary: name}
		nic.MacAddress = either(n.MAC, fmt.Sprintf("00:50:56:%02x:%02x:%02x", hash(v.Name)&0x3f, hash(v.Name)>>8&0xff, i))
		nic.AddressType = "assigned"
		nic.Connectable = &types.VirtualDeviceConnectInfo{StartConnected: true, AllowGuestControl: true, Connected: on}
		nic.Backing = &types.VirtualEthernetCardNetworkBackingInfo{Network: &ref,
			VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: name}}
		vm.Config.Hardware.Device = append(vm.Config.Hardware.Device, nic)
		vm.Network = append(vm.Network, ref)
		vm.Guest.Net = append(vm.Guest.Net, types.GuestNicInfo{Network: name, IpAddress: n.Addresses, MacAddress: nic.MacAddress,
			Connected: on, DeviceConfigId: key})
		if vm.Guest.IpAddress == "" && len(n.Addresses) > 0 {
			vm.Guest.IpAddress = n.Addresses[0]
		}
	}
	return nil
}
