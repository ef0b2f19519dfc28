// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
)

// reader is a disk that the stand-in for nbdkit's vddk plugin has open. Both sides map FILE, so that what was read is
// known even when the reader is killed, and commands reach it at once. The layout is that of ../vddk/shared.h.
type reader struct {
	ID       int       `json:"id"`
	VM       string    `json:"vm"`
	Snapshot string    `json:"snapshot"`
	Key      int32     `json:"key"`
	PID      int       `json:"pid"`
	Opened   time.Time `json:"opened"`
	host     string
	file     string
}

// Offsets in the shared file; 64-bit little-endian numbers.
const (
	atOpen, atReads, atBytes, atExtents, atCommand, atAfter, sharedSize = 0, 8, 16, 24, 32, 40, 4096
)

var commands = map[string]uint64{"": 0, "run": 0, "fail": 1, "stall": 2, "die": 3}

type openRequest struct {
	User, Password, Thumbprint, VM, Snapshot, File, Transports string
	PID                                                        int
}

// openReader says what VixDiskLib_ConnectEx and _Open would.
func (s *sim) openReader(r *http.Request) (any, error) {
	var o openRequest
	if err := decode(r.Body, &o); err != nil {
		return nil, err
	}
	if o.Thumbprint != s.thumbprint {
		return nil, errors.New("VixDiskLib_ConnectEx: The host certificate's thumbprint is not the one given")
	}
	if o.User != s.user || o.Password != s.password {
		return nil, errors.New("VixDiskLib_ConnectEx: Cannot connect to host: Insufficient permissions in the host operating system")
	}
	moref, ok := strings.CutPrefix(o.VM, "moref=")
	if !ok {
		return nil, fmt.Errorf("VixDiskLib_ConnectEx: vm=%s: only moref=ID", o.VM)
	}
	vm, _, err := s.find(moref)
	if err != nil || vm.Self.Value != moref {
		return nil, errors.New("VixDiskLib_ConnectEx: The virtual machine cannot be found")
	}
	s.mu.Lock()
	rule := s.match("vddk-open", vm.Self, nil, "call")
	s.mu.Unlock()
	if rule != nil {
		s.wait(rule, rule.DelayMs, nil)
		if rule.Fault != "" {
			return nil, fmt.Errorf("VixDiskLib_Open: %s: %s", rule.Fault, rule.Message)
		}
	}
	if !s.granted(vm.Self, readDisks) {
		return nil, errors.New("VixDiskLib_ConnectEx: You do not have access rights to this file")
	}
	for _, e := range s.ctx.Map.AllReference("VirtualMachineSnapshot") {
		snap, ok := e.(*VirtualMachineSnapshot)
		if !ok || snap.Self.Value != o.Snapshot || snap.Vm != vm.Self {
			continue
		}
		ctx := s.background()
		var found *int32
		ctx.Map.WithLock(ctx, snap.Self, func() {
			for key := range snap.frozen {
				if s.snapshotFile(snap, key) == o.File {
					found = &key
				}
			}
		})
		if found != nil {
			return s.admit(vm, snap, *found, o.PID)
		}
		return nil, fmt.Errorf("VixDiskLib_Open: %s: A file was not found", o.File)
	}
	return nil, errors.New("VixDiskLib_ConnectEx: The snapshot cannot be found")
}

func (s *sim) snapshotFile(snap *VirtualMachineSnapshot, key int32) string {
	for _, d := range snap.Config.Hardware.Device {
		if d.GetVirtualDevice().Key == key {
			if disk, ok := asDisk(d); ok {
				return backingFile(disk)
			}
		}
	}
	return ""
}

func (s *sim) admit(vm *simulator.VirtualMachine, snap *VirtualMachineSnapshot, key int32, pid int) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := &reader{ID: len(s.readers) + 1, VM: vm.Name, Snapshot: snap.Self.Value, Key: key, PID: pid, Opened: time.Now(),
		host: vm.Runtime.Host.Value}
	open := 0
	for _, r := range s.readers {
		if r.host == n.host && r.view().Open {
			open++
		}
	}
	if open >= s.nfcLimit {
		return nil, errors.New("VixDiskLib_Open: Too many NFC connections to this host")
	}
	n.file = fmt.Sprintf("%s/reader-%d", s.dir, n.ID)
	shared := make([]byte, sharedSize)
	if o := s.next; o != nil && o.suits(n) {
		binary.LittleEndian.PutUint64(shared[atCommand:], commands[o.Command])
		binary.LittleEndian.PutUint64(shared[atAfter:], o.After)
		s.next = nil
	}
	if err := os.WriteFile(n.file, shared, 0o644); err != nil {
		return nil, err
	}
	s.readers = append(s.readers, n)
	return map[string]any{"image": snap.frozen[key], "shared": n.file}, nil
}

type readerView struct {
	reader
	Open    bool   `json:"open"`
	Reads   uint64 `json:"reads"`
	Bytes   uint64 `json:"bytes"`
	Extents uint64 `json:"extents"`
}

func (r *reader) view() readerView {
	v := readerView{reader: *r}
	text, err := os.ReadFile(r.file)
	if err != nil || len(text) < sharedSize {
		return v
	}
	number := func(at int) uint64 { return binary.LittleEndian.Uint64(text[at:]) }
	v.Open = number(atOpen) == 1 && alive(r.PID)
	v.Reads, v.Bytes, v.Extents = number(atReads), number(atBytes), number(atExtents)
	return v
}

// alive is false for zombies, too.
func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

func (s *sim) readersNow() []readerView {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []readerView{}
	for _, r := range s.readers {
		list = append(list, r.view())
	}
	return list
}

func (o *order) suits(r *reader) bool {
	return (o.VM == "" || o.VM == r.VM) && (o.Key == 0 || o.Key == r.Key)
}

// commandReaders tells open readers to fail, stall or die, or to run again, once they have read AFTER bytes; NEXT: not
// the open ones, but the one that opens next.
func (s *sim) commandReaders(o *order) error {
	code, ok := commands[o.Command]
	if !ok {
		return fmt.Errorf("command %q: run, fail, stall or die", o.Command)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.Next {
		s.next = o
		return nil
	}
	for _, r := range s.readers {
		if !r.view().Open || !o.suits(r) {
			continue
		}
		f, err := os.OpenFile(r.file, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		var b [16]byte
		binary.LittleEndian.PutUint64(b[0:], code)
		binary.LittleEndian.PutUint64(b[8:], o.After)
		_, err = f.WriteAt(b[:], atCommand)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
