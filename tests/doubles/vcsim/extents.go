// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sort"
	"syscall"
)

// extent is a range of bytes of a disk.
type extent struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

func (e extent) end() int64 { return e.Offset + e.Length }

// merge rounds extents out to GRAIN, cuts them at SIZE, sorts them and joins those that touch.
func merge(list []extent, grain, size int64) []extent {
	rounded := make([]extent, 0, len(list))
	for _, e := range list {
		from := e.Offset / grain * grain
		to := min((e.end()+grain-1)/grain*grain, size)
		if from < to {
			rounded = append(rounded, extent{from, to - from})
		}
	}
	sort.Slice(rounded, func(i, j int) bool { return rounded[i].Offset < rounded[j].Offset })
	var out []extent
	for _, e := range rounded {
		if n := len(out); n > 0 && e.Offset <= out[n-1].end() {
			out[n-1].Length = max(out[n-1].end(), e.end()) - out[n-1].Offset
		} else {
			out = append(out, e)
		}
	}
	return out
}

// without takes HOLES out of LIST; both are merged.
func without(list, holes []extent) []extent {
	var out []extent
	for _, e := range list {
		for _, h := range holes {
			if h.end() <= e.Offset || h.Offset >= e.end() {
				continue
			}
			if h.Offset > e.Offset {
				out = append(out, extent{e.Offset, h.Offset - e.Offset})
			}
			e = extent{h.end(), e.end() - h.end()}
			if e.Length <= 0 {
				break
			}
		}
		if e.Length > 0 {
			out = append(out, e)
		}
	}
	return out
}

// allocated lists the parts of a file that are not holes.
func allocated(f *os.File) ([]extent, error) {
	const seekData, seekHole = 3, 4
	var out []extent
	for at := int64(0); ; {
		from, err := f.Seek(at, seekData)
		if errors.Is(err, syscall.ENXIO) {
			return out, nil
		} else if err != nil {
			return nil, err
		}
		to, err := f.Seek(from, seekHole)
		if err != nil {
			return nil, err
		}
		out = append(out, extent{from, to - from})
		at = to
	}
}

// copySparse copies a file with its holes.
func copySparse(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	stat, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := out.Truncate(stat.Size()); err != nil {
		return err
	}
	data, err := allocated(in)
	if err != nil {
		return err
	}
	for _, e := range data {
		if _, err := in.Seek(e.Offset, io.SeekStart); err != nil {
			return err
		}
		if _, err := out.Seek(e.Offset, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.CopyN(out, in, e.Length); err != nil {
			return err
		}
	}
	return nil
}

// differences lists the sectors where two files differ; what lies behind a file's end is zero.
func differences(before, after string) ([]extent, error) {
	const sector, chunk = 512, 1 << 20
	a, err := os.Open(before)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	b, err := os.Open(after)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	var data []extent
	for _, f := range []*os.File{a, b} {
		part, err := allocated(f)
		if err != nil {
			return nil, err
		}
		data = append(data, part...)
	}
	var out []extent
	x, y := make([]byte, chunk), make([]byte, chunk)
	for _, e := range merge(data, 4096, 1<<62) {
		for at := e.Offset; at < e.end(); at += chunk {
			n := min(chunk, e.end()-at)
			clear(x)
			clear(y)
			if _, err := a.ReadAt(x[:n], at); err != nil && err != io.EOF {
				return nil, err
			}
			if _, err := b.ReadAt(y[:n], at); err != nil && err != io.EOF {
				return nil, err
			}
			if bytes.Equal(x[:n], y[:n]) {
				continue
			}
			for i := int64(0); i < n; i += sector {
				j := min(i+sector, n)
				if !bytes.Equal(x[i:j], y[i:j]) {
					out = append(out, extent{at + i, j - i})
				}
			}
		}
	}
	return merge(out, sector, 1<<62), nil
}
