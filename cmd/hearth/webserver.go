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
	shown := console.Options{
		Source: s, Actions: s.history, Runners: s.pool, InFlight: s.scheduler, Instances: s.instances, Store: s, Engine: s.backend,
		Access: s.guard.who, Metrics: s.metrics.page,
	}
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

var (
	_ console.Source      = (*stack)(nil)
	_ console.StoreSource = (*stack)(nil)
)

// Status implements console.Source.
func (s *stack) Status() console.Status {
	return console.Status{Version: version(), Started: s.started, Endpoint: s.endpoint, Worker: s.worker != nil, Load: s.scheduler.Load()}
}

// StoreStatus implements console.StoreSource.
func (s *stack) StoreStatus() console.Store {
	is := s.blobs.Stats()
	return console.Store{
		Blobs: is.Blobs, Bytes: is.Bytes, MaxBytes: is.MaxBytes, Reserved: is.Reserved, Pinned: is.Pinned, Unproven: is.Unproven,
		Evicted: is.Evicted, EvictedBytes: is.EvictedBytes, Behind: s.backing.address(),
	}
}
