// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

const tasksKept = 5

// work is what a task does once it runs, with the VM locked on behalf of CTX.
type work func(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault)

// start runs a task of METHOD on a VM: queued, running with progress, done. A rule may prolong it or make it fail. Like
// vCenter it refuses a second one while the first is under way.
func (s *sim) start(vm *simulator.VirtualMachine, method string, args any, f work) (types.ManagedObjectReference, types.BaseMethodFault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.vms[vm.Self]
	if state.busy != nil {
		return types.ManagedObjectReference{}, &types.TaskInProgress{Task: *state.busy}
	}
	r := s.match(method, vm.Self, args, "task")
	ctx := s.background()
	task := simulator.CreateTask(vm, method, nil)
	task.Info.Name, task.Info.DescriptionId, task.Info.EntityName = method, "VirtualMachine."+method, vm.Name
	task.Info.Cancelable = false
	ctx.Map.Put(task)
	task.Info.Key, task.Info.Task = task.Self.Value, task.Self
	state.busy = &task.Self
	go s.run(ctx, vm, task, r, f)
	return task.Self, nil
}

func (s *sim) run(ctx *simulator.Context, vm *simulator.VirtualMachine, task *simulator.Task, r *rule, f work) {
	set := func(changes ...types.PropertyChange) { ctx.Map.AtomicUpdate(ctx, task, changes) }
	recent := func() {
		ctx.Map.WithLock(ctx, vm.Self, func() {
			list := append([]types.ManagedObjectReference(nil), vm.RecentTask...)
			list = append(list, task.Self)
			ctx.Map.Update(ctx, vm, []types.PropertyChange{{Name: "recentTask", Val: list[max(0, len(list)-tasksKept):]}})
		})
	}
	recent()
	if r != nil {
		if r.Reason != "" {
			set(types.PropertyChange{Name: "info.description", Val: types.LocalizableMessage{Key: "test.reason", Message: r.Reason}})
		}
		s.wait(r, r.QueuedMs, nil)
	}
	set(types.PropertyChange{Name: "info.startTime", Val: time.Now()},
		types.PropertyChange{Name: "info.state", Val: types.TaskInfoStateRunning})
	if r != nil {
		s.wait(r, r.RunMs, func(percent int32) { set(types.PropertyChange{Name: "info.progress", Val: percent}) })
	}
	var result types.AnyType
	var fault types.BaseMethodFault
	if r != nil && r.Fault != "" {
		fault, _ = makeFault(r, vm.Self)
	} else {
		ctx.Map.WithLock(ctx, vm.Self, func() { result, fault = f(ctx) })
	}
	s.mu.Lock()
	s.vms[vm.Self].busy = nil
	s.mu.Unlock()
	done := []types.PropertyChange{{Name: "info.completeTime", Val: time.Now()}}
	if fault != nil {
		message := fmt.Sprintf("%T", fault)
		if r != nil && r.Message != "" {
			message = r.Message
		}
		done = append(done, types.PropertyChange{Name: "info.error", Val: types.LocalizedMethodFault{
			Fault: fault, LocalizedMessage: message}},
			types.PropertyChange{Name: "info.state", Val: types.TaskInfoStateError})
	} else {
		if result != nil {
			done = append(done, types.PropertyChange{Name: "info.result", Val: result})
		}
		done = append(done, types.PropertyChange{Name: "info.progress", Val: int32(100)},
			types.PropertyChange{Name: "info.state", Val: types.TaskInfoStateSuccess})
	}
	set(done...)
}
