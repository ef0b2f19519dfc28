// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"
)

// front stands before the simulator: it checks, logs and, when a rule says so, spoils each call.
type front struct {
	sim     *sim
	next    http.Handler
	control http.Handler
}

// call is a line of the log.
type call struct {
	N       int            `json:"n"`
	Time    time.Time      `json:"time"`
	Method  string         `json:"method"`
	Object  string         `json:"object"`
	Name    string         `json:"name"`
	Session string         `json:"session"`
	Args    map[string]any `json:"args"`
	Fault   string         `json:"fault"`
	Ms      int64          `json:"ms"`
	Done    bool           `json:"done"`
}

var faultElement = regexp.MustCompile(`<detail><([A-Za-z]+)Fault `)
var unknownProperty = regexp.MustCompile(`<missingSet><path>([^<]*)</path><fault><fault [^>]*type="InvalidProperty"`)

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/ctl/") {
		f.control.ServeHTTP(w, r)
		return
	}
	if r.URL.Path != "/sdk" || r.Method != http.MethodPost {
		f.next.ServeHTTP(w, r)
		return
	}
	text, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	method, err := simulator.UnmarshalBody(types.TypeFunc(), text)
	if err == nil {
		err = checkRequest(r, text)
	}
	if err != nil {
		f.sim.note(&call{Method: "(malformed)", Fault: "InvalidRequest", Args: map[string]any{"error": err.Error()}, Done: true})
		writeFault(w, err.Error(), &types.InvalidRequest{})
		return
	}
	c := &call{Method: method.Name, Object: method.This.Value, Name: f.sim.objectName(method.This), Args: arguments(method)}
	if cookie, err := r.Cookie(soap.SessionCookieName); err == nil {
		c.Session = strings.Trim(cookie.Value, `"`)
	}
	f.sim.note(c)
	f.serve(w, r, method, text, c)
	f.sim.mu.Lock()
	c.Ms, c.Done = time.Since(c.Time).Milliseconds(), true
	f.sim.mu.Unlock()
}

func (f *front) serve(w http.ResponseWriter, r *http.Request, method *simulator.Method, text []byte, c *call) {
	s := f.sim
	s.mu.Lock()
	rule := s.match(method.Name, method.This, method.Body, "call")
	s.mu.Unlock()
	if rule != nil {
		s.wait(rule, rule.DelayMs, nil)
		if rule.Act == "expire" {
			s.expireSessions()
		} else if rule.Act != "" {
			c.Fault = rule.Act
			spoil(w, rule.Act, nil)
			return
		}
		if rule.Fault != "" {
			fault, _ := makeFault(rule, method.This)
			c.Fault = rule.Fault
			writeFault(w, rule.Message, fault)
			return
		}
	}
	for _, p := range privileges(method) {
		if !s.granted(method.This, p) {
			c.Fault = "NoPermission"
			writeFault(w, "Permission to perform this operation was denied.",
				&types.NoPermission{Object: &method.This, PrivilegeId: p})
			return
		}
	}
	r.Body = io.NopCloser(bytes.NewReader(text))
	answer := httptest.NewRecorder()
	f.next.ServeHTTP(answer, r)
	if answer.Code != http.StatusOK {
		if m := faultElement.FindSubmatch(answer.Body.Bytes()); m != nil {
			s.mu.Lock()
			c.Fault = string(m[1])
			s.mu.Unlock()
		}
	}
	if m := unknownProperty.FindSubmatch(answer.Body.Bytes()); m != nil && method.Name == "RetrievePropertiesEx" {
		c.Fault = "InvalidProperty" // the simulator says it per object
		writeFault(w, "", &types.InvalidProperty{Name: string(m[1])})
		return
	}
	s.mu.Lock()
	rule = s.match(method.Name, method.This, method.Body, "after")
	s.mu.Unlock()
	if rule != nil {
		s.wait(rule, rule.DelayMs, nil)
		if rule.Act != "" && rule.Act != "expire" {
			spoil(w, rule.Act, answer.Body.Bytes())
			return
		}
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

// spoil is what networks and proxies do to answers.
func spoil(w http.ResponseWriter, act string, body []byte) {
	switch act {
	case "drop":
		panic(http.ErrAbortHandler)
	case "status-503":
		http.Error(w, "no healthy upstream", http.StatusServiceUnavailable)
	case "garbage":
		_, _ = io.WriteString(w, "<html><body>A gateway's own page, not SOAP</body></html>")
	case "truncate":
		_, _ = w.Write(append([]byte(xml.Header), body[:len(body)/2]...))
	}
}

func (s *sim) note(c *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.N, c.Time = len(s.calls)+1, time.Now()
	s.calls = append(s.calls, c)
}

// arguments are a call's, without its secrets.
func arguments(method *simulator.Method) map[string]any {
	if login, ok := method.Body.(*types.Login); ok {
		return map[string]any{"userName": login.UserName}
	}
	return asJSON(method.Body)
}

func writeFault(w http.ResponseWriter, message string, fault types.BaseMethodFault) {
	var out bytes.Buffer
	out.WriteString(xml.Header + `<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"` +
		` xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">` +
		`<soapenv:Body><soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>`)
	_ = xml.EscapeText(&out, []byte(message))
	out.WriteString(`</faultstring><detail>`)
	kind := reflect.TypeOf(fault).Elem().Name()
	e := xml.NewEncoder(&out)
	_ = e.EncodeElement(fault, xml.StartElement{Name: xml.Name{Local: kind + "Fault"}, Attr: []xml.Attr{
		{Name: xml.Name{Local: "xmlns"}, Value: "urn:vim25"}, {Name: xml.Name{Local: "xsi:type"}, Value: kind}}})
	_ = e.Flush()
	out.WriteString(`</detail></soapenv:Fault></soapenv:Body></soapenv:Envelope>`)
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.WriteHeader(http.StatusInternalServerError)
	_, _ = w.Write(out.Bytes())
}
