// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

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
