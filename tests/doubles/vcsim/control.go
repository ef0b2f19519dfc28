// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"

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
	get("/ctl/history", func(*http.Request) (any, error) { return s.historyNow(), nil })
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
