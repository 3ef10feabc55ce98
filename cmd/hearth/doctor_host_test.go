package main

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// diagnosed is what a check finds.
func diagnosed(t *testing.T, proc string, check func(host)) finding {
	t.Helper()
	f := &findings{out: &bytes.Buffer{}}
	check(host{f: f, proc: proc})
	if len(f.all) != 1 {
		t.Fatalf("findings %+v", f.all)
	}
	if one := f.all[0]; !one.OK && one.Fix == "" || one.Detail == "" {
		t.Errorf("%+v says not what there is, or not what to do", one)
	}
	return f.all[0]
}

// This host is good for hearth, or these tests could not run.
func TestDoctorOfThisHost(t *testing.T) {
	for name, check := range map[string]func(host){
		"user IDs": host.ids, "kernel": host.kernel,
		"clock": func(h host) { h.clock(time.Now()) },
		"disk":  func(h host) { h.disk(t.TempDir()) },
	} {
		if found := diagnosed(t, "/proc", check); !found.OK || found.Name != name {
			t.Errorf("%s: %+v", name, found)
		}
	}
}

func TestDoctorOfOtherHosts(t *testing.T) {
	proc := t.TempDir() // of a kernel that has nothing
	if err := os.MkdirAll(filepath.Join(proc, "self"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"uid_map", "gid_map"} {
		if err := os.WriteFile(filepath.Join(proc, "self", name), []byte("         0       1000          1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if found := diagnosed(t, proc, host.ids); found.OK || !strings.Contains(found.Fix, "/etc/subuid") {
		t.Errorf("%+v", found)
	}
	if found := diagnosed(t, proc, host.kernel); found.OK || !strings.Contains(found.Detail, "pid namespaces") || !strings.Contains(found.Detail, "seccomp") {
		t.Errorf("%+v", found)
	}
	if found := diagnosed(t, proc, func(h host) { h.clock(time.Unix(0, 0)) }); found.OK || !strings.Contains(found.Detail, "1970") {
		t.Errorf("%+v", found)
	}
	if found := diagnosed(t, proc, func(h host) { h.disk("/proc") }); found.OK || !strings.Contains(found.Fix, "--data-dir") {
		t.Errorf("%+v", found) // where no file can be made
	}
	if found := diagnosed(t, proc, func(h host) { h.disk(filepath.Join(proc, "none")) }); found.OK {
		t.Errorf("%+v", found)
	}
}

func TestMapped(t *testing.T) {
	for lines, want := range map[string]bool{
		"0 0 4294967295\n":         true,
		"0 1000 1\n":               false,
		"0 1000 1\n1 100000 65536": true,
		"65535 0 10\n":             false,
		"nonsense":                 false,
		"":                         false,
	} {
		if got := mapped(lines, 65534); got != want {
			t.Errorf("%q: %v", lines, got)
		}
	}
}

// A port is free, or a hearth's, or somebody else's.
func TestDoctorLooksAtPorts(t *testing.T) {
	port := func(address string) finding {
		return diagnosed(t, "/proc", func(h host) { h.port(t.Context(), "listen", address) })
	}
	s := serve(t, "127.0.0.1:0", t.TempDir(), "--execserver=/bin/true")
	if found := port(s.address); !found.OK || !strings.Contains(found.Detail, "a server answers there") {
		t.Errorf("%+v", found)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	other := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- other.Serve(listener) }()
	if found := port(address); found.OK || !strings.Contains(found.Fix, "--listen") {
		t.Errorf("%+v", found)
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	<-served // it was closed
	if found := port(address); !found.OK || !strings.Contains(found.Detail, "free") {
		t.Errorf("%+v", found)
	}
	if found := port("127.0.0.1:99999"); found.OK {
		t.Errorf("%+v", found)
	}
}

func TestDoctorPrintsJSON(t *testing.T) {
	out, err := hearth(t, nil, "doctor", "--json", "--data-dir="+t.TempDir(), "--store")
	var found []finding
	text, _, _ := strings.Cut(out, "]\n") // an error follows
	if jsonErr := json.Unmarshal([]byte(text+"]"), &found); jsonErr != nil || err == nil {
		t.Fatalf("%v, %v: %s", err, jsonErr, out)
	}
	if len(found) != 1 || found[0].OK || found[0].Name != "store" || found[0].Fix == "" {
		t.Errorf("%+v", found)
	}
}
