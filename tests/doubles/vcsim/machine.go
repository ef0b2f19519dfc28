// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// machine is a VM whose snapshots, power and configuration are ours.
type machine struct {
	*simulator.VirtualMachine
	sim *sim
}

func fault(f types.BaseMethodFault, message string) *soap.Fault { return simulator.Fault(message, f) }

// refuse puts a fault in the place of a task.
func started(ref types.ManagedObjectReference, f types.BaseMethodFault) (types.ManagedObjectReference, *soap.Fault) {
	if f != nil {
		return ref, fault(f, "The operation is not allowed in the current state.")
	}
	return ref, nil
}

func (m *machine) ReconfigVMTask(ctx *simulator.Context, req *types.ReconfigVM_Task) soap.HasFault {
	body := &methods.ReconfigVM_TaskBody{}
	known := types.VirtualMachineConfigSpec{Name: req.Spec.Name, Annotation: req.Spec.Annotation,
		ChangeTrackingEnabled: req.Spec.ChangeTrackingEnabled, DeviceChange: req.Spec.DeviceChange}
	if !sameJSON(known, req.Spec) {
		body.Fault_ = fault(&types.NotSupported{}, "this stand-in changes name, annotation, change tracking and network cards only")
		return body
	}
	ref, f := started(m.sim.start(m.VirtualMachine, "ReconfigVM_Task", req.Spec, func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
		return nil, m.reconfigure(ctx, req.Spec)
	}))
	if body.Fault_ = f; f == nil {
		body.Res = &types.ReconfigVM_TaskResponse{Returnval: ref}
	}
	return body
}

func (m *machine) reconfigure(ctx *simulator.Context, spec types.VirtualMachineConfigSpec) types.BaseMethodFault {
	var changes []types.PropertyChange
	devices := append([]types.BaseVirtualDevice(nil), m.Config.Hardware.Device...)
	for _, c := range spec.DeviceChange {
		change := c.GetVirtualDeviceConfigSpec()
		wanted, ok := change.Device.(types.BaseVirtualEthernetCard)
		if !ok || change.Operation != types.VirtualDeviceConfigSpecOperationEdit {
			return &types.NotSupported{}
		}
		found := false
		for i, d := range devices {
			if d.GetVirtualDevice().Key == wanted.GetVirtualEthernetCard().Key {
				if c := wanted.GetVirtualEthernetCard().Connectable; c != nil {
					devices[i] = withConnection(d, *c)
				}
				found = true
			}
		}
		if !found {
			return &types.InvalidDeviceSpec{InvalidVmConfig: types.InvalidVmConfig{Property: "deviceChange.device.key"}}
		}
	}
	if len(spec.DeviceChange) > 0 {
		changes = append(changes, types.PropertyChange{Name: "config.hardware.device", Val: devices})
	}
	if spec.Name != "" {
		changes = append(changes, types.PropertyChange{Name: "name", Val: spec.Name})
	}
	if spec.Annotation != "" {
		changes = append(changes, types.PropertyChange{Name: "config.annotation", Val: spec.Annotation})
	}
	if on := spec.ChangeTrackingEnabled; on != nil {
		if f := m.setTracking(*on); f != nil {
			return f
		}
		changes = append(changes, types.PropertyChange{Name: "config.changeTrackingEnabled", Val: *on})
	}
	ctx.Map.Update(ctx, m.VirtualMachine, changes)
	if spec.ChangeTrackingEnabled != nil {
		m.sim.refresh(ctx, m.VirtualMachine)
	}
	return nil
}

// setTracking turns change tracking on (from the next stun) or off. Not with snapshots, not on old hardware.
func (m *machine) setTracking(on bool) types.BaseMethodFault {
	s := m.sim
	version, _ := strconv.Atoi(strings.TrimPrefix(m.Config.Version, "vmx-"))
	supported := m.Capability.ChangeTrackingSupported
	if on && (version < 7 || supported == nil || !*supported) {
		return &types.NotSupported{}
	}
	if m.Snapshot != nil && on {
		return &types.InvalidState{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.vms[m.Self]
	switch {
	case on && state.tracking == "off":
		state.tracking = "pending"
	case !on:
		state.tracking = "off"
		for _, d := range state.disks {
			d.stopTracking()
		}
	}
	return nil
}

func (m *machine) PowerOnVMTask(_ *simulator.Context, req *types.PowerOnVM_Task) soap.HasFault {
	body := &methods.PowerOnVM_TaskBody{}
	ref, f := started(m.sim.start(m.VirtualMachine, "PowerOnVM_Task", req, func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
		return nil, m.sim.power(ctx, m.VirtualMachine, types.VirtualMachinePowerStatePoweredOn)
	}))
	if body.Fault_ = f; f == nil {
		body.Res = &types.PowerOnVM_TaskResponse{Returnval: ref}
	}
	return body
}

func (m *machine) PowerOffVMTask(_ *simulator.Context, req *types.PowerOffVM_Task) soap.HasFault {
	body := &methods.PowerOffVM_TaskBody{}
	ref, f := started(m.sim.start(m.VirtualMachine, "PowerOffVM_Task", req, func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
		return nil, m.sim.power(ctx, m.VirtualMachine, types.VirtualMachinePowerStatePoweredOff)
	}))
	if body.Fault_ = f; f == nil {
		body.Res = &types.PowerOffVM_TaskResponse{Returnval: ref}
	}
	return body
}

// ShutdownGuest asks the guest, which needs its tools and takes its time, or never obeys.
func (m *machine) ShutdownGuest(_ *simulator.Context, _ *types.ShutdownGuest) soap.HasFault {
	body := &methods.ShutdownGuestBody{}
	if m.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn {
		body.Fault_ = fault(&types.InvalidPowerState{RequestedState: types.VirtualMachinePowerStatePoweredOn,
			ExistingState: m.Runtime.PowerState}, "The attempted operation cannot be performed in the current state.")
		return body
	}
	if m.Guest.ToolsRunningStatus != string(types.VirtualMachineToolsRunningStatusGuestToolsRunning) {
		body.Fault_ = fault(&types.ToolsUnavailable{}, "Cannot complete operation because VMware Tools is not running in this virtual machine.")
		return body
	}
	m.sim.mu.Lock()
	after := m.sim.vms[m.Self].shutdown
	m.sim.mu.Unlock()
	if after >= 0 {
		time.AfterFunc(time.Duration(after)*time.Millisecond, func() {
			ctx := m.sim.background()
			ctx.Map.WithLock(ctx, m.Self, func() { _ = m.sim.power(ctx, m.VirtualMachine, types.VirtualMachinePowerStatePoweredOff) })
		})
	}
	body.Res = &types.ShutdownGuestResponse{}
	return body
}

// power changes the power state; the VM is locked on behalf of CTX. Powering on makes pending change tracking begin.
func (s *sim) power(ctx *simulator.Context, vm *simulator.VirtualMachine, to types.VirtualMachinePowerState) types.BaseMethodFault {
	if vm.Runtime.PowerState == to {
		return &types.InvalidPowerState{RequestedState: to, ExistingState: vm.Runtime.PowerState}
	}
	tools := string(types.VirtualMachineToolsRunningStatusGuestToolsNotRunning)
	if to == types.VirtualMachinePowerStatePoweredOn {
		tools = string(types.VirtualMachineToolsRunningStatusGuestToolsRunning)
		s.stunned(vm.Self)
	}
	devices := append([]types.BaseVirtualDevice(nil), vm.Config.Hardware.Device...)
	for i, d := range devices {
		if c := d.GetVirtualDevice().Connectable; c != nil {
			next := *c
			next.Connected = to == types.VirtualMachinePowerStatePoweredOn && c.StartConnected
			devices[i] = withConnection(d, next)
		}
	}
	ctx.Map.Update(ctx, vm, []types.PropertyChange{
		{Name: "runtime.powerState", Val: to}, {Name: "summary.runtime.powerState", Val: to},
		{Name: "guest.toolsRunningStatus", Val: tools}, {Name: "config.hardware.device", Val: devices}})
	s.refresh(ctx, vm)
	return nil
}

// stunned makes pending change tracking begin.
func (s *sim) stunned(vm types.ManagedObjectReference) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state := s.vms[vm]; state.tracking == "pending" {
		state.tracking = "on"
		for _, d := range state.disks {
			_ = d.startTracking()
		}
	}
}
