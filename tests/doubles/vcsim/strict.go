// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"
)

const instanceNS = "http://www.w3.org/2001/XMLSchema-instance"

// checkRequest refuses what vCenter refuses and Go's decoder lets pass: no SOAPAction, a foreign namespace, unknown
// elements, elements out of order, required ones missing.
func checkRequest(r *http.Request, text []byte) error {
	if action := strings.Trim(r.Header.Get("SOAPAction"), `"`); !strings.HasPrefix(action, "urn:vim25") {
		return fmt.Errorf("SOAPAction %q: not urn:vim25/VERSION", action)
	}
	if kind := r.Header.Get("Content-Type"); !strings.HasPrefix(kind, "text/xml") {
		return fmt.Errorf("Content-Type %q: not text/xml", kind)
	}
	d := xml.NewDecoder(bytes.NewReader(text))
	inBody := false
	for {
		token, err := d.Token()
		if err == io.EOF {
			return fmt.Errorf("no method in the body")
		} else if err != nil {
			return err
		}
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		if inBody {
			if start.Name.Space != "urn:vim25" {
				return fmt.Errorf("%s is in namespace %q, not urn:vim25", start.Name.Local, start.Name.Space)
			}
			kind, ok := types.TypeFunc()(start.Name.Local)
			if !ok {
				return fmt.Errorf("no method %q", start.Name.Local)
			}
			return checkElement(d, start.Name.Local, kind)
		}
		inBody = start.Name.Local == "Body"
	}
}

// field is an element that a type may contain.
type field struct {
	name     string
	kind     reflect.Type
	required bool
}

// fields lists a type's elements in the order of the schema: those of its base type first.
func fields(kind reflect.Type) (list []field) {
	for i := 0; i < kind.NumField(); i++ {
		f := kind.Field(i)
		tag := f.Tag.Get("xml")
		if f.Anonymous {
			list = append(list, fields(f.Type)...)
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		if name == "" || name == "-" || strings.Contains(","+options+",", ",attr,") {
			continue
		}
		list = append(list, field{name, f.Type, !strings.Contains(options, "omitempty") &&
			f.Type.Kind() != reflect.Slice && f.Type.Kind() != reflect.Pointer}) // *bool: may be left out
	}
	return list
}

// checkElement reads what is inside an element of KIND, up to its end.
func checkElement(d *xml.Decoder, path string, kind reflect.Type) error {
	for kind.Kind() == reflect.Pointer || (kind.Kind() == reflect.Slice && kind.Elem().Kind() != reflect.Uint8) {
		kind = kind.Elem()
	}
	if kind.Kind() != reflect.Struct || kind.Name() == "Time" || kind == reflect.TypeOf(types.ManagedObjectReference{}) {
		return d.Skip()
	}
	known, at, seen := fields(kind), 0, map[string]bool{}
	for {
		token, err := d.Token()
		if err != nil {
			return err
		}
		switch t := token.(type) {
		case xml.EndElement:
			for _, f := range known {
				if f.required && !seen[f.name] {
					return fmt.Errorf("%s: required element %s is missing", path, f.name)
				}
			}
			return nil
		case xml.StartElement:
			name := t.Name.Local
			next := -1
			for i := at; i < len(known); i++ {
				if known[i].name == name {
					next = i
					break
				}
			}
			if next < 0 {
				return fmt.Errorf("%s: element %s is unknown or out of order", path, name)
			}
			at = next
			if seen[name] && known[at].kind.Kind() != reflect.Slice {
				return fmt.Errorf("%s: element %s comes twice", path, name)
			}
			seen[name] = true
			inner := known[at].kind
			for _, a := range t.Attr {
				if a.Name.Space == instanceNS && a.Name.Local == "type" && !strings.HasPrefix(a.Value, "xsd:") {
					_, local, found := strings.Cut(a.Value, ":")
					if !found {
						local = a.Value
					}
					actual, ok := types.TypeFunc()(local)
					if !ok {
						return fmt.Errorf("%s: no type %q", path+"."+name, a.Value)
					}
					inner = actual
				}
			}
			if err := checkElement(d, path+"."+name, inner); err != nil {
				return err
			}
		}
	}
}
