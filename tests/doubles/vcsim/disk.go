// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// write is something that the guest wrote.
type write struct {
	extent
	After     int    `json:"after"` // the tracking sequence that it came after
	Kind      string `json:"kind"`
	Untracked bool   `json:"untracked,omitempty"`
}

// disk is one virtual disk: a file that the guest writes, and what change tracking remembers of it. As on ESXi the
// memory survives the snapshots: a set of changed areas for each sequence number.
type disk struct {
	vm      string
	key     int32
	image   string
	apart   bool // independent or a physical RDM: no snapshots, no tracking
	epoch   string
	seq     int
	changed map[int][]extent // sequence n: what changed between n-1 and n
	journal []write
}

func newEpoch() string {
	u := uuid.New()
	h := make([]string, len(u))
	for i, b := range u {
		h[i] = fmt.Sprintf("%02x", b)
	}
	h[0] = "52"
	return strings.Join(h[:8], " ") + "-" + strings.Join(h[8:], " ")
}

func (d *disk) changeID() string {
	if d.epoch == "" {
		return ""
	}
	return fmt.Sprintf("%s/%d", d.epoch, d.seq)
}

func splitID(id string) (string, int, error) {
	i := strings.LastIndexByte(id, '/')
	if i < 0 {
		return "", 0, fmt.Errorf("bad change ID")
	}
	n, err := strconv.Atoi(id[i+1:])
	return id[:i], n, err
}

func (d *disk) base() string { return strings.TrimSuffix(d.image, ".img") + ".base.img" }

func (d *disk) size() int64 {
	if st, err := os.Stat(d.image); err == nil {
		return st.Size()
	}
	return 0
}

// stopTracking forgets everything, as disabling change tracking deletes the -ctk files.
func (d *disk) stopTracking() {
	d.epoch, d.seq, d.changed = "", 0, nil
	os.Remove(d.base())
}

// startTracking begins a new epoch at what the disk holds now.
func (d *disk) startTracking() error {
	d.stopTracking()
	if d.apart {
		return nil
	}
	d.epoch, d.seq, d.changed = newEpoch(), 1, map[int][]extent{}
	for i := range d.journal {
		d.journal[i].After = 0
	}
	return copySparse(d.image, d.base())
}

// freeze copies the disk into FILE and, when it is tracked, begins the next sequence number.
func (d *disk) freeze(file string) error {
	if err := copySparse(d.image, file); err != nil {
		return err
	}
	if d.epoch == "" {
		return nil
	}
	list, err := differences(d.base(), file)
	if err != nil {
		return err
	}
	var lost []extent
	for _, w := range d.journal {
		if w.After == d.seq && !w.Untracked {
			list = append(list, w.extent) // rewritten with the same bytes, too
		} else if w.After == d.seq {
			lost = append(lost, w.extent)
		}
	}
	d.seq++
	d.changed[d.seq] = without(merge(list, 512, 1<<62), merge(lost, 512, 1<<62))
	os.Remove(d.base())
	return os.Link(file, d.base()) // stays when the snapshot and its file are gone
}

// areas lists what changed from sequence FROM to TO.
func (d *disk) areas(from, to int, grain, size int64) []extent {
	var list []extent
	for n := from + 1; n <= to; n++ {
		list = append(list, d.changed[n]...)
	}
	return merge(list, grain, size)
}

// write does what the guest does: KIND random (by SEED), zero, or same (the bytes that are there already).
func (d *disk) write(list []extent, kind string, seed int64, untracked bool) error {
	f, err := os.OpenFile(d.image, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	random := rand.New(rand.NewSource(seed))
	size := d.size()
	for _, e := range list {
		if e.Offset < 0 || e.Length <= 0 || e.end() > size {
			return fmt.Errorf("a write of %d bytes at %d lies outside the disk of %d bytes", e.Length, e.Offset, size)
		}
		data := make([]byte, e.Length)
		switch kind {
		case "", "random":
			kind = "random"
			random.Read(data)
		case "zero":
		case "same":
			if _, err := f.ReadAt(data, e.Offset); err != nil {
				return err
			}
		default:
			return fmt.Errorf("kind %q: random, zero or same", kind)
		}
		if _, err := f.WriteAt(data, e.Offset); err != nil {
			return err
		}
		d.journal = append(d.journal, write{e, d.seq, kind, untracked})
	}
	return nil
}

func newDisk(vm string, key int32, image string) *disk { return &disk{vm: vm, key: key, image: image} }

// diskFile is what a test gave as content of a disk.
type diskFile struct {
	path     string
	capacity int64
}

// make gives the file that the guest writes: the test's own, or an empty one at PATH.
func (f *diskFile) make(path string) (string, error) {
	if f.path != "" {
		if !fileExists(f.path) {
			return "", fmt.Errorf("%s is missing", f.path)
		}
		path = f.path
	} else if !fileExists(path) {
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			return "", err
		}
	}
	if st, err := os.Stat(path); err != nil || f.capacity == 0 || st.Size() == f.capacity {
		return path, err
	}
	return path, os.Truncate(path, f.capacity)
}

// hash makes names into numbers that are the same each time.
func hash(text string) uint32 {
	h := uint32(2166136261)
	for _, c := range []byte(text) {
		h = (h ^ uint32(c)) * 16777619
	}
	return h
}
