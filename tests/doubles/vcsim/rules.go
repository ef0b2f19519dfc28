// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// rule says what happens to calls, or to tasks, that match it. The first that matches is taken.
type rule struct {
	ID     int            `json:"id"`
	Method string         `json:"method"` // "" or "*": every one; "vddk-open": a disk is opened by a reader
	Object string         `json:"object"` // name or moref; "": every one
	Args   map[string]any `json:"args"`   // arguments as in the log of calls, e.g. {"quiesce": true}
	Where  string         `json:"where"`  // call (before it is executed), after (it is executed, the answer suffers), task
	Skip   int            `json:"skip"`   // let so many pass first
	Count  int            `json:"count"`  // act so many times; 0: always

	Fault   string          `json:"fault"`   // type, e.g. NoPermission
	Message string          `json:"message"` // the fault's text; "" is sent as such
	Detail  json.RawMessage `json:"detail"`  // properties of the fault
	DelayMs int             `json:"delay_ms"`
	Act     string          `json:"act"` // expire (all sessions, first), drop, truncate, garbage, status-503

	QueuedMs int    `json:"queued_ms"` // tasks: this long queued,
	RunMs    int    `json:"run_ms"`    // this long running, with progress
	Reason   string `json:"reason"`    // info.description of the task

	Seen int `json:"seen"`
	Hits int `json:"hits"`
	gone bool
}

func (r *rule) check() error {
	switch r.Where {
	case "":
		r.Where = "call"
	case "call", "after", "task":
	default:
		return fmt.Errorf("where %q: call, after or task", r.Where)
	}
	switch r.Act {
	case "", "expire", "drop", "truncate", "garbage", "status-503":
	default:
		return fmt.Errorf("act %q: expire, drop, truncate, garbage or status-503", r.Act)
	}
	if r.Fault != "" {
		_, err := makeFault(r, types.ManagedObjectReference{})
		return err
	}
	return nil
}

// match finds the rule for a call; s.mu is held.
func (s *sim) match(method string, object types.ManagedObjectReference, args any, where string) *rule {
	var plain map[string]any
	for _, r := range s.rules {
		if r.Where != where || (r.Method != "" && r.Method != "*" && r.Method != method) {
			continue
		}
		if r.Object != "" && r.Object != "*" && r.Object != object.Value && r.Object != s.objectName(object) {
			continue
		}
		if len(r.Args) > 0 {
			if plain == nil {
				plain = asJSON(args)
			}
			same := true
			for k, v := range r.Args {
				same = same && reflect.DeepEqual(plain[k], v)
			}
			if !same {
				continue
			}
		}
		r.Seen++
		if r.Seen <= r.Skip || (r.Count > 0 && r.Hits >= r.Count) {
			continue
		}
		r.Hits++
		return r
	}
	return nil
}

// wait passes MS, telling progress, unless the rule is taken away meanwhile.
func (s *sim) wait(r *rule, ms int, progress func(int32)) {
	began, told := time.Now(), int32(0)
	for {
		s.mu.Lock()
		gone := r.gone
		s.mu.Unlock()
		passed := time.Since(began).Milliseconds()
		if gone || passed >= int64(ms) {
			return
		}
		if percent := int32(passed * 100 / int64(ms)); progress != nil && percent >= told+5 {
			told = percent
			progress(percent)
		}
		time.Sleep(min(10*time.Millisecond, time.Duration(int64(ms)-passed)*time.Millisecond))
	}
}

// makeFault gives a fault of the rule's type with what such faults always say filled in.
func makeFault(r *rule, object types.ManagedObjectReference) (types.BaseMethodFault, error) {
	kind, ok := types.TypeFunc()(r.Fault)
	if !ok {
		return nil, fmt.Errorf("no type %q", r.Fault)
	}
	fault, ok := reflect.New(kind).Interface().(types.BaseMethodFault)
	if !ok {
		return nil, fmt.Errorf("%q is no fault", r.Fault)
	}
	switch f := fault.(type) {
	case *types.NoPermission:
		f.Object, f.PrivilegeId = &object, "System.Modify"
	case *types.NotAuthenticated:
		f.Object, f.PrivilegeId = &object, "System.View"
	case *types.ManagedObjectNotFound:
		f.Obj = object
	case *types.FileFault:
		f.File = "[datastore] injected.vmdk"
	case *types.NoDiskSpace:
		f.File, f.Datastore = "[datastore] injected.vmdk", "datastore"
	case *types.InvalidPowerState:
		f.ExistingState = types.VirtualMachinePowerStatePoweredOff
	}
	if len(r.Detail) > 0 {
		if err := json.Unmarshal(r.Detail, fault); err != nil {
			return nil, err
		}
	}
	return fault, nil
}

func asJSON(v any) map[string]any {
	out := map[string]any{}
	if text, err := json.Marshal(v); err == nil {
		_ = json.Unmarshal(text, &out)
	}
	return out
}
