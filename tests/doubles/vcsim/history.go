// SPDX-License-Identifier: Apache-2.0

package main

// pastSnapshot is a snapshot that was taken, whether it still exists or not.
type pastSnapshot struct {
	Moref   string           `json:"moref"`
	Name    string           `json:"name"`
	VM      string           `json:"vm"`
	Removed bool             `json:"removed"`
	Frozen  map[int32]string `json:"frozen"` // the files stay when the stand-in was started with -keep
	IDs     map[int32]string `json:"change_ids"`
}

// answer is what QueryChangedDiskAreas said.
type answer struct {
	VM       string   `json:"vm"`
	Key      int32    `json:"key"`
	Snapshot string   `json:"snapshot"`
	Since    string   `json:"since"`
	Start    int64    `json:"start"`
	Areas    []extent `json:"areas"`
}

// history is what tests compare the target with, after the snapshots are gone.
type history struct {
	Snapshots []*pastSnapshot `json:"snapshots"`
	Answers   []answer        `json:"answers"`
}

// remember notes a snapshot with all that it froze; s.mu is not held.
func (s *sim) remember(v *VirtualMachineSnapshot) {
	p := &pastSnapshot{Moref: v.Self.Value, Name: v.name, VM: s.objectName(v.Vm), Frozen: v.frozen, IDs: map[int32]string{}}
	for key := range v.frozen {
		p.IDs[key] = changeIDOf(v.Config.Hardware.Device, key)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.past.Snapshots = append(s.past.Snapshots, p)
}

// forgotten notes that the snapshot is gone.
func (s *sim) forgotten(moref string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.past.Snapshots {
		if p.Moref == moref {
			p.Removed = true
		}
	}
}

func (s *sim) historyNow() history {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := history{Snapshots: []*pastSnapshot{}, Answers: append([]answer{}, s.past.Answers...)}
	for _, p := range s.past.Snapshots {
		c := *p
		h.Snapshots = append(h.Snapshots, &c)
	}
	return h
}
