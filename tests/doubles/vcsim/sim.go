// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha1"
	"fmt"
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// sim is what the stand-in knows beyond govmomi's simulator. mu guards all of it; it is never held while one of the
// simulator's own locks is waited for.
type sim struct {
	service    *simulator.Service
	ctx        *simulator.Context
	dir        string
	grain      int64
	maxAreas   int
	nfcLimit   int
	user       string
	password   string
	thumbprint string

	mu      sync.Mutex
	vms     map[types.ManagedObjectReference]*vmState
	rules   []*rule
	nextID  int
	calls   []*call
	denied  map[string]string // privilege -> object ("*": all)
	readers []*reader
	next    *order // command for the readers to come
	past    history
	keep    bool // frozen files stay when their snapshots go
}

// vmState is what the stand-in knows of a VM.
type vmState struct {
	tracking string // off, pending (until the next stun), on
	disks    map[int32]*disk
	busy     *types.ManagedObjectReference // the task that runs on it
	nextSnap int32
	shutdown int // ms until the guest is down; -1: it never does
	// The next removal of a snapshot leaves its delta disks: consolidationNeeded.
	leaveDeltas bool
}

func newSim(service *simulator.Service, dir string, grain int64, maxAreas int) *sim {
	return &sim{service: service, ctx: service.Context, dir: dir, grain: grain, maxAreas: maxAreas,
		vms: map[types.ManagedObjectReference]*vmState{}, denied: map[string]string{}}
}

// install puts our objects in front of the simulator's. VMs are wrapped per session, because the simulator asserts
// Map.Get(ref).(*VirtualMachine) in many places.
func (s *sim) install() {
	s.ctx.Map.Handler = func(ctx *simulator.Context, method *simulator.Method) (mo.Reference, types.BaseMethodFault) {
		if vm, ok := ctx.Map.Get(method.This).(*simulator.VirtualMachine); ok && ctx.Session != nil {
			if _, ok := ctx.Session.Registry.Get(method.This).(*machine); !ok {
				ctx.Session.Registry.Put(&machine{vm, s})
			}
		}
		return nil, nil
	}
	old := s.ctx.Map.Get(*s.content().AuthorizationManager).(*simulator.AuthorizationManager)
	s.ctx.Map.Put(&rights{old, s})
}

func (s *sim) content() types.ServiceContent {
	return s.ctx.Map.Get(types.ManagedObjectReference{Type: "ServiceInstance", Value: "ServiceInstance"}).(*simulator.ServiceInstance).Content
}

// background is a context of its own: the simulator's locks belong to contexts.
func (s *sim) background() *simulator.Context {
	c := *s.ctx
	c.Context = context.Background()
	return &c
}

// find gives the VM with this name or moref.
func (s *sim) find(name string) (*simulator.VirtualMachine, *vmState, error) {
	for _, e := range s.ctx.Map.All("VirtualMachine") {
		vm := e.(*simulator.VirtualMachine)
		if vm.Name == name || vm.Self.Value == name {
			return vm, s.vms[vm.Self], nil
		}
	}
	return nil, nil, fmt.Errorf("no VM %q", name)
}

func (s *sim) disk(vm string, key int32) (*disk, error) {
	_, state, err := s.find(vm)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := state.disks[key]; d != nil {
		return d, nil
	}
	return nil, fmt.Errorf("VM %q has no disk %d", vm, key)
}

// objectName is the name that people know an object by; of a snapshot its VM's.
func (s *sim) objectName(ref types.ManagedObjectReference) string {
	switch o := s.ctx.Map.Get(ref).(type) {
	case *VirtualMachineSnapshot:
		return s.objectName(o.Vm)
	case mo.Entity:
		return o.Entity().Name
	}
	return ref.Value
}

func thumbprint(der []byte) string {
	var parts []string
	for _, b := range sha1.Sum(der) {
		parts = append(parts, fmt.Sprintf("%02X", b))
	}
	return strings.Join(parts, ":")
}
