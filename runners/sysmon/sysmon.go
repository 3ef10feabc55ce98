package sysmon

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"
)

// Slack is how late a relaxed monitor may wake up.
const Slack = time.Millisecond

// Relax lets the monitor of a process, of Go, be late. The process may be this one.
// Threads that the monitor starts inherit its slack, and processes that these start.
// It takes the capability SYS_NICE.
func Relax(pid int) error {
	thread, err := find(pid)
	if err != nil {
		return fmt.Errorf("find the Go runtime's monitor in process %d: %w", pid, err)
	}
	return os.WriteFile(slackFile(thread), strconv.AppendInt(nil, int64(Slack), 10), 0)
}

// slackFile is of a thread: each has a directory there as a process has, though none
// that is listed.
func slackFile(thread int) string { return fmt.Sprintf("/proc/%d/timerslack_ns", thread) }

// find returns the thread that the runtime starts before all others: the one with
// the least number but for the first thread. Where the numbers began anew in
// between it is some other, and then the timers of that one are late.
func find(pid int) (thread int, err error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return 0, err
	}
	var others []int
	for _, e := range entries {
		thread, err := strconv.Atoi(e.Name())
		if err != nil {
			return 0, err
		}
		if thread != pid {
			others = append(others, thread)
		}
	}
	if len(others) == 0 {
		return 0, errors.New("it has one thread alone")
	}
	return slices.Min(others), nil
}
