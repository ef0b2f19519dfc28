// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// rights is the AuthorizationManager with privileges that a test took away.
type rights struct {
	*simulator.AuthorizationManager
	sim *sim
}

// needed lists the privilege of each method that a migration calls on a VM or its snapshots.
var needed = map[string]string{
	"CreateSnapshot_Task":     "VirtualMachine.State.CreateSnapshot",
	"RemoveSnapshot_Task":     "VirtualMachine.State.RemoveSnapshot",
	"ConsolidateVMDisks_Task": "VirtualMachine.State.RemoveSnapshot",
	"PowerOnVM_Task":          "VirtualMachine.Interact.PowerOn",
	"PowerOffVM_Task":         "VirtualMachine.Interact.PowerOff",
	"ShutdownGuest":           "VirtualMachine.Interact.PowerOff",
	"QueryChangedDiskAreas":   "VirtualMachine.Provisioning.DiskRandomRead",
}

const readDisks = "VirtualMachine.Provisioning.DiskRandomRead"

// privileges lists those that a call needs.
func privileges(method *simulator.Method) []string {
	if req, ok := method.Body.(*types.ReconfigVM_Task); ok {
		var list []string
		if req.Spec.ChangeTrackingEnabled != nil {
			list = append(list, "VirtualMachine.Config.ChangeTracking")
		}
		if req.Spec.Annotation != "" {
			list = append(list, "VirtualMachine.Config.Annotation")
		}
		if len(req.Spec.DeviceChange) > 0 {
			list = append(list, "VirtualMachine.Config.EditDevice")
		}
		return list
	}
	if p := needed[method.Name]; p != "" {
		return []string{p}
	}
	return nil
}

func (s *sim) granted(ref types.ManagedObjectReference, privilege string) bool {
	if snap, ok := s.ctx.Map.Get(ref).(*VirtualMachineSnapshot); ok {
		ref = snap.Vm
	}
	s.mu.Lock()
	object, denied := s.denied[privilege]
	s.mu.Unlock()
	return !denied || (object != "*" && object != ref.Value && object != s.objectName(ref))
}

func (r *rights) availability(ref types.ManagedObjectReference, ids []string) (list []types.PrivilegeAvailability) {
	for _, id := range ids {
		list = append(list, types.PrivilegeAvailability{PrivId: id, IsGranted: r.sim.granted(ref, id)})
	}
	return list
}

func (r *rights) unknown(ids []string) *soap.Fault {
	for _, id := range ids {
		if !knownPrivilege(r.RoleList, id) {
			return fault(&types.InvalidArgument{InvalidProperty: "privId"}, "A specified parameter was not correct: privId")
		}
	}
	return nil
}

func knownPrivilege(roles []types.AuthorizationRole, id string) bool {
	for _, role := range roles {
		for _, p := range role.Privilege {
			if p == id {
				return true
			}
		}
	}
	return false
}

func (r *rights) HasPrivilegeOnEntities(req *types.HasPrivilegeOnEntities) soap.HasFault {
	body := &methods.HasPrivilegeOnEntitiesBody{Res: &types.HasPrivilegeOnEntitiesResponse{}}
	if body.Fault_ = r.unknown(req.PrivId); body.Fault_ != nil {
		return body
	}
	for _, e := range req.Entity {
		if r.sim.ctx.Map.Get(e) == nil {
			body.Fault_ = fault(&types.ManagedObjectNotFound{Obj: e}, "The object has already been deleted or has not been completely created")
			return body
		}
		body.Res.Returnval = append(body.Res.Returnval, types.EntityPrivilege{Entity: e, PrivAvailability: r.availability(e, req.PrivId)})
	}
	return body
}

func (r *rights) HasPrivilegeOnEntity(req *types.HasPrivilegeOnEntity) soap.HasFault {
	body := &methods.HasPrivilegeOnEntityBody{Res: &types.HasPrivilegeOnEntityResponse{}}
	if body.Fault_ = r.unknown(req.PrivId); body.Fault_ != nil {
		return body
	}
	for _, a := range r.availability(req.Entity, req.PrivId) {
		body.Res.Returnval = append(body.Res.Returnval, a.IsGranted)
	}
	return body
}

func (r *rights) FetchUserPrivilegeOnEntities(req *types.FetchUserPrivilegeOnEntities) soap.HasFault {
	body := &methods.FetchUserPrivilegeOnEntitiesBody{Res: &types.FetchUserPrivilegeOnEntitiesResponse{}}
	for _, e := range req.Entities {
		result := types.UserPrivilegeResult{Entity: e}
		for _, role := range r.RoleList {
			for _, p := range role.Privilege {
				if role.Name == "Admin" && r.sim.granted(e, p) {
					result.Privileges = append(result.Privileges, p)
				}
			}
		}
		body.Res.Returnval = append(body.Res.Returnval, result)
	}
	return body
}
