package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/hearth-build/hearth/reapi/console"
)

// openConsole makes the server of the console's pages, what it accepts connections
// from, and the address for people.
func (s *stack) openConsole(l net.Listener) (*http.Server, net.Listener, string, error) {
	shown := console.Options{Source: s, Actions: s.history, Runners: s.pool, Access: s.guard.who, Metrics: s.metrics.page}
	if s.auditor != nil {
		shown.Audits = s.auditor
	}
	pages, err := console.Handler(shown)
	if err != nil {
		return nil, nil, "", fmt.Errorf("make the console: %w", err)
	}
	server := &http.Server{Handler: pages, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 128 << 10}
	if s.guard.tls == nil {
		return server, l, "http://" + l.Addr().String(), nil
	}
	return server, tls.NewListener(l, s.guard.tls), "https://" + l.Addr().String(), nil
}
