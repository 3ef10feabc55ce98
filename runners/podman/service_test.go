package podman_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/podman"
)

// TestServiceDies: calls fail in a way that invites another try, runners that
// are there go on, and the service is started again.
func TestServiceDies(t *testing.T) {
	dataDir := t.TempDir()
	b := open(t, options(dataDir))
	r := start(t, b, runners.HostImage)
	for range 2 {
		service := servicePID(t, dataDir)
		// Held up, so that the call is under way when it is killed.
		if err := syscall.Kill(service, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		spec := newSpec(t, b, runners.HostImage)
		errs := make(chan error, 1)
		go func() {
			in, err := b.Start(ctx(t), spec)
			if err == nil {
				err = in.Remove(ctx(t))
			}
			errs <- err
		}()
		// Nothing shows from outside that it was sent, but what comes before
		// takes some milliseconds.
		begin := time.Now()
		await(t, "the call is under way", func() bool { return time.Since(begin) > 500*time.Millisecond })
		if err := syscall.Kill(service, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := <-errs; !errors.Is(err, runners.ErrLost) {
			t.Errorf("a call while the service died: %v", err)
		}
		if out := r.run(shell("echo on")); out != "on\n" {
			t.Errorf("printed %q", out)
		}
		start(t, b, runners.HostImage).run(shell("true"))
	}
}

// TestReady: a service that does not answer is noticed, and one that died is replaced.
func TestReady(t *testing.T) {
	dataDir := t.TempDir()
	b := open(t, options(dataDir))
	if err := b.Ready(ctx(t)); err != nil {
		t.Fatal(err)
	}
	service := servicePID(t, dataDir)
	if err := syscall.Kill(service, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	await(t, "all threads of the service are stopped", func() bool { return isStopped(t, service) })
	short, cancel := context.WithTimeout(ctx(t), 200*time.Millisecond)
	defer cancel()
	if err := b.Ready(short); err == nil {
		t.Error("a service that is stopped answers")
	}
	if err := syscall.Kill(service, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "another service answers", func() bool { return b.Ready(ctx(t)) == nil })
}

// isStopped tells whether a signal to stop has reached each thread of a process.
func isStopped(t *testing.T, pid int) bool {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("threads of %d: %v %v", pid, threads, err)
	}
	for _, thread := range threads {
		stat, err := os.ReadFile(thread)
		if err != nil {
			return false // it has ended meanwhile
		}
		// The state follows the name of the program, which may have anything in it.
		if _, state, _ := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " "); !strings.HasPrefix(state, "T") {
			return false
		}
	}
	return true
}

// TestServiceDoesNotStart: the error has the service's own words.
func TestServiceDoesNotStart(t *testing.T) {
	script := filepath.Join(t.TempDir(), "podman")
	text := "#!/bin/sh\n[ \"$1\" = --version ] && echo podman version 4.9.9 && exit\necho the disk is upside down >&2; exit 125\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	opts := options(t.TempDir())
	opts.Podman = script
	b, err := podman.Open(ctx(t), opts)
	if err == nil {
		closeBackend(t, b)
	}
	if !errors.Is(err, runners.ErrBackend) || !strings.Contains(err.Error(), "the disk is upside down") {
		t.Errorf("open: %v", err)
	}
}

// TestLongDataDir: the name of the service's socket would not fit into an address.
func TestLongDataDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 30))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	start(t, open(t, options(dir)), runners.HostImage).run(shell("true"))
}

// TestCloseLeavesNothing: no process, descriptor or goroutine.
func TestCloseLeavesNothing(t *testing.T) {
	dataDir := t.TempDir()
	before := fds(t)
	b := open(t, options(dataDir))
	r := start(t, b, runners.HostImage)
	r.run(shell("true"))
	r.remove()
	closeBackend(t, b)
	if left := processesOf(t, dataDir); len(left) > 0 {
		t.Errorf("processes: %q", left)
	}
	await(t, "descriptors are closed", func() bool { return fds(t) <= before })
}

func fds(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
