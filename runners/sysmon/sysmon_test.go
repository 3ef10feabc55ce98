package sysmon

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The monitor is the one thread of a Go process that sleeps by nanosleep, and it does
// while a goroutine computes.
func TestFind(t *testing.T) {
	thread, err := find(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	done := make(chan struct{})
	go func() { // ends with stop
		defer close(done)
		for !stop.Load() {
		}
	}()
	defer func() { stop.Store(true); <-done }()
	for begin := time.Now(); time.Since(begin) < time.Minute; {
		call, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/syscall", thread))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(string(call), strconv.Itoa(unix.SYS_NANOSLEEP)+" ") {
			return
		}
	}
	t.Errorf("thread %d was never seen in nanosleep", thread)
}

func TestRelax(t *testing.T) {
	pid := os.Getpid()
	if err := Relax(pid); err != nil {
		t.Fatal(err)
	}
	thread, err := find(pid)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(slackFile(thread))
	if err != nil || strings.TrimSpace(string(got)) != strconv.Itoa(int(Slack)) {
		t.Errorf("the slack is %s, %v, want %d", got, err, Slack)
	}
	own, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil || own == int(Slack) {
		t.Errorf("a thread that is not the monitor has a slack of %d, %v", own, err)
	}
}

func TestRelaxNothing(t *testing.T) {
	if err := Relax(1 << 30); err == nil {
		t.Error("a process that does not exist was relaxed")
	}
}
