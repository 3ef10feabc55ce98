package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func goodFlags(t *testing.T) *serveCmd {
	t.Helper()
	program := filepath.Join(t.TempDir(), "hearth-execserver")
	if err := os.WriteFile(program, []byte("#!/bin/true"), 0o755); err != nil {
		t.Fatal(err)
	}
	return &serveCmd{Listening: listenFlags{MaxConnections: 1}, machineFlags: machineFlags{
		Slots: 2, MaxQueued: 10, DefaultTimeout: time.Hour, MaxTimeout: time.Hour, MaxPrinted: 1,
		containerFlags: containerFlags{IdleTimeout: time.Minute, Images: imageFlags{PullTimeout: time.Minute}, ExecServer: program},
	}}
}

func TestValidateFillsIn(t *testing.T) {
	c := goodFlags(t)
	if err := c.validate(); err != nil || c.MaxRunners != 8 {
		t.Errorf("%v, max-runners %d", err, c.MaxRunners)
	}
}

// One answer names every flag that is wrong.
func TestValidateNamesEveryBadFlag(t *testing.T) {
	c := goodFlags(t)
	c.Slots, c.MaxQueued, c.DefaultTimeout, c.MaxBytes = 0, -1, 2*time.Hour, -5
	c.Images = imageFlags{ImageExpiry: time.Minute, ImageMinFree: -1}
	c.Instance = []string{"a//b", "x/blobs"}
	c.ExecServer, c.Listening.MaxConnections = filepath.Join(t.TempDir(), "gone"), 0
	err := c.validate()
	if err == nil {
		t.Fatal("nothing is wrong")
	}
	for _, flag := range []string{"--slots", "--max-queued", "--default-timeout", "--max-bytes", "--max-connections", "a//b", "x/blobs", "--execserver", "--pull-timeout", "--image-expiry", "--image-min-free"} {
		if !strings.Contains(err.Error(), flag) {
			t.Errorf("%s is not named in: %v", flag, err)
		}
	}
}

func TestBytesFlag(t *testing.T) {
	for text, want := range map[string]bytesFlag{"0": 0, "1024": 1024, "2k": 2048, "50GiB": 50 << 30, "1.5g": 3 << 29} {
		var b bytesFlag
		if err := b.UnmarshalText([]byte(text)); err != nil || b != want {
			t.Errorf("%s is %d (%v), want %d", text, b, err, want)
		}
	}
	var b bytesFlag
	if err := b.UnmarshalText([]byte("much")); err == nil {
		t.Error("much is a size")
	}
}

func TestPortInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, err = listen("--listen", taken.Addr().String())
	if err == nil || !strings.Contains(err.Error(), "in use") || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("%v", err)
	}
}

func TestListenRefusesNonsense(t *testing.T) {
	if _, err := listen("--console", "nowhere:none"); err == nil || !strings.Contains(err.Error(), "--console") {
		t.Errorf("%v", err)
	}
}
