// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// order is the body of a control call; each uses what it needs.
type order struct {
	VM        string   `json:"vm"`
	Key       int32    `json:"key"`
	Writes    []extent `json:"writes"`
	Kind      string   `json:"kind"`
	Seed      int64    `json:"seed"`
	Untracked bool     `json:"untracked"`
	Capacity  int64    `json:"capacity"`
	File      string   `json:"file"`
	Power     string   `json:"power"`
	Tools     string   `json:"tools"`
	Shutdown  *int     `json:"shutdown_ms"`
	Deltas    *bool    `json:"leave_deltas"`
	Deny      []string `json:"deny"`
	Datastore string   `json:"datastore"`
	Free      int64    `json:"free"`
	MaxAreas  int      `json:"max_areas"`
	Command   string   `json:"command"`
	After     uint64   `json:"after"`
	Next      bool     `json:"next"`
	Name      string   `json:"name"`
	Disk      diskSpec `json:"disk"`
}

func (s *sim) controlMux() http.Handler {
	mux := http.NewServeMux()
	get := func(path string, f func(r *http.Request) (any, error)) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) { reply(w, r, f) })
	}
	post := func(path string, f func(o *order) error) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			reply(w, r, func(r *http.Request) (any, error) {
				var o order
				if err := decode(r.Body, &o); err != nil {
					return nil, err
				}
				return map[string]bool{"ok": true}, f(&o)
			})
		})
	}
	get("/ctl/vms", func(*http.Request) (any, error) { return s.describe(), nil })
	get("/ctl/calls", func(r *http.Request) (any, error) {
		since, _ := strconv.Atoi(r.URL.Query().Get("since"))
		s.mu.Lock()
		defer s.mu.Unlock()
		list := []call{}
		for _, c := range s.calls[min(since, len(s.calls)):] {
			list = append(list, *c)
		}
		return list, nil
	})
	get("/ctl/sessions", func(*http.Request) (any, error) { return s.sessions(), nil })
	get("/ctl/journal", func(r *http.Request) (any, error) {
		key, _ := strconv.Atoi(r.URL.Query().Get("key"))
		d, err := s.disk(r.URL.Query().Get("vm"), int32(key))
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		return append([]write{}, d.journal...), nil
	})
	get("/ctl/vddk", func(*http.Request) (any, error) { return s.readersNow(), nil })
	mux.HandleFunc("/ctl/fault", func(w http.ResponseWriter, r *http.Request) { reply(w, r, s.serveRules) })
	mux.HandleFunc("POST /ctl/vddk-open", func(w http.ResponseWriter, r *http.Request) { reply(w, r, s.openReader) })
	post("/ctl/vddk", s.commandReaders)
	post("/ctl/write", s.guestWrites)
	post("/ctl/cbt-reset", s.resetTracking)
	post("/ctl/disk", s.changeDisk)
	post("/ctl/vm", s.changeVM)
	post("/ctl/add-disk", s.addDisk)
	post("/ctl/remove-disk", s.removeDisk)
	post("/ctl/snapshot", s.takeSnapshot)
	post("/ctl/expire-sessions", func(*order) error { s.expireSessions(); return nil })
	post("/ctl/deny", func(o *order) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.denied = map[string]string{}
		for _, p := range o.Deny {
			s.denied[p] = either(o.VM, "*")
		}
		return nil
	})
	post("/ctl/datastore", func(o *order) error {
		ds, ok := s.entity("Datastore", o.Datastore).(*simulator.Datastore)
		if !ok {
			return fmt.Errorf("no datastore %q", o.Datastore)
		}
		ctx := s.background()
		ctx.Map.AtomicUpdate(ctx, ds, []types.PropertyChange{{Name: "summary.freeSpace", Val: o.Free}})
		return nil
	})
	post("/ctl/settings", func(o *order) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.maxAreas = either(o.MaxAreas, s.maxAreas)
		return nil
	})
	return mux
}

func decode(r io.Reader, to any) error {
	text, err := io.ReadAll(r)
	if err != nil || len(bytes.TrimSpace(text)) == 0 {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(to)
}

func reply(w http.ResponseWriter, r *http.Request, f func(r *http.Request) (any, error)) {
	answer, err := f(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

func (s *sim) serveRules(r *http.Request) (any, error) {
	switch r.Method {
	case http.MethodPost:
		n := &rule{}
		if err := decode(r.Body, n); err != nil {
			return nil, err
		}
		if err := n.check(); err != nil {
			return nil, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.nextID++
		n.ID, n.Seen, n.Hits = s.nextID, 0, 0
		s.rules = append(s.rules, n)
		return *n, nil
	case http.MethodDelete:
		id, _ := strconv.Atoi(r.URL.Query().Get("id"))
		s.mu.Lock()
		defer s.mu.Unlock()
		kept := []*rule{}
		for _, o := range s.rules {
			if id == 0 || o.ID == id {
				o.gone = true
			} else {
				kept = append(kept, o)
			}
		}
		s.rules = kept
		return len(kept), nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []rule{}
	for _, o := range s.rules {
		list = append(list, *o)
	}
	return list, nil
}

func (s *sim) guestWrites(o *order) error {
	d, err := s.disk(o.VM, o.Key)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return d.write(o.Writes, o.Kind, o.Seed, o.Untracked)
}

// resetTracking gives the VM's disks new tracking epochs, as a crash of the host does.
func (s *sim) resetTracking(o *order) error {
	vm, state, err := s.find(o.VM)
	if err != nil {
		return err
	}
	s.mu.Lock()
	for _, d := range state.disks {
		if d.epoch != "" {
			if e := d.startTracking(); e != nil {
				err = e
			}
		}
	}
	s.mu.Unlock()
	s.refreshNow(vm)
	return err
}

func (s *sim) refreshNow(vm *simulator.VirtualMachine) {
	ctx := s.background()
	ctx.Map.WithLock(ctx, vm.Self, func() { s.refresh(ctx, vm) })
}

// changeDisk grows a disk, or moves its file as Storage vMotion does.
func (s *sim) changeDisk(o *order) error {
	d, err := s.disk(o.VM, o.Key)
	if err != nil {
		return err
	}
	vm, _, _ := s.find(o.VM)
	if o.Capacity != 0 {
		if vm.Snapshot != nil || o.Capacity < d.size() {
			return errors.New("a disk grows only, and only without snapshots")
		}
		if err := os.Truncate(d.image, o.Capacity); err != nil {
			return err
		}
	}
	if o.File != "" {
		move := func(devices []types.BaseVirtualDevice) []types.BaseVirtualDevice {
			out := append([]types.BaseVirtualDevice(nil), devices...)
			for i, v := range out {
				if old, ok := v.(*types.VirtualDisk); ok && old.Key == o.Key {
					name := o.File
					if m := deltaSuffix.FindStringSubmatch(backingFile(old)); m != nil {
						name = deltaSuffix.ReplaceAllString(o.File, m[1]+".vmdk")
					}
					out[i] = withBacking(old, old.CapacityInBytes, changeID(old), name, "")
				}
			}
			return out
		}
		ctx := s.background()
		for _, e := range s.ctx.Map.AllReference("VirtualMachineSnapshot") {
			if snap, ok := e.(*VirtualMachineSnapshot); ok && snap.Vm == vm.Self {
				ctx.Map.WithLock(ctx, snap.Self, func() { snap.Config.Hardware.Device = move(snap.Config.Hardware.Device) })
			}
		}
		ctx.Map.WithLock(ctx, vm.Self, func() {
			ctx.Map.Update(ctx, vm, []types.PropertyChange{{Name: "config.hardware.device", Val: move(vm.Config.Hardware.Device)}})
		})
	}
	s.refreshNow(vm)
	return nil
}

// changeVM changes power, tools, how long the guest takes to shut down, and whether a removal leaves delta disks.
func (s *sim) changeVM(o *order) error {
	vm, state, err := s.find(o.VM)
	if err != nil {
		return err
	}
	s.mu.Lock()
	if o.Shutdown != nil {
		state.shutdown = *o.Shutdown
	}
	if o.Deltas != nil {
		state.leaveDeltas = *o.Deltas
	}
	s.mu.Unlock()
	ctx := s.background()
	ctx.Map.WithLock(ctx, vm.Self, func() {
		if o.Power != "" {
			to := map[string]types.VirtualMachinePowerState{"on": "poweredOn", "off": "poweredOff", "suspended": "suspended"}[o.Power]
			if to == "" {
				err = fmt.Errorf("power %q: on, off or suspended", o.Power)
			} else if f := s.power(ctx, vm, to); f != nil {
				err = fmt.Errorf("%T", f)
			}
		}
		if o.Tools != "" {
			ctx.Map.Update(ctx, vm, []types.PropertyChange{{Name: "guest.toolsRunningStatus", Val: o.Tools}})
		}
	})
	return err
}

func (s *sim) sessionManager() (*simulator.Context, *simulator.SessionManager) {
	ctx := s.background()
	ctx.Session = &simulator.Session{UserSession: types.UserSession{Key: "control"}, Registry: simulator.NewRegistry(), Map: s.ctx.Map}
	return ctx, ctx.Session.Get(*s.content().SessionManager).(*simulator.SessionManager)
}

func (s *sim) sessions() []string {
	_, m := s.sessionManager()
	keys := []string{}
	for _, session := range m.SessionList {
		keys = append(keys, session.Key)
	}
	return keys
}

func (s *sim) expireSessions() {
	ctx, m := s.sessionManager()
	for _, key := range s.sessions() {
		m.TerminateSession(ctx, &types.TerminateSession{SessionId: []string{key}})
	}
}

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
