package runnertest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// processStat is what is needed of /proc/PID/stat.
type processStat struct {
	state string
	cpu   time.Duration // with that of the children it has reaped
	start string        // tells it from others that had or will have the number
}

func readStat(pid int) (processStat, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return processStat{}, err
	}
	// The second field is a name in parentheses, in which all may be.
	text := string(content)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	const state, utime, cstime, start = 0, 11, 14, 19
	if len(fields) <= start {
		return processStat{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	s := processStat{state: fields[state], start: fields[start]}
	for i := utime; i <= cstime; i++ {
		ticks, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return s, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		s.cpu += time.Duration(ticks) * time.Second / 100 // the unit is the same on all hosts
	}
	return s, nil
}

// members finds the processes of the PID namespace whose first one is init,
// init first.
func members(init int) ([]int, error) {
	space, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", init))
	if err != nil {
		return nil, fmt.Errorf("the exec server is gone: %w", err)
	}
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil || own == space {
		return nil, fmt.Errorf("process %d has no PID namespace of its own (%v)", init, err)
	}
	links, err := filepath.Glob("/proc/[0-9]*/ns/pid")
	if err != nil {
		return nil, err
	}
	pids := []int{init}
	for _, link := range links {
		pid, err := strconv.Atoi(strings.Split(link, "/")[2])
		if err != nil {
			return nil, err
		}
		if target, err := os.Readlink(link); err == nil && target == space && pid != init {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// eachMember calls f for the processes of a namespace that are not gone.
func eachMember(init int, f func(pid int, s processStat) error) error {
	pids, err := members(init)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		s, err := readStat(pid)
		if goneError(err) || s.state == "Z" {
			continue
		}
		if err != nil {
			return err
		}
		if err := f(pid, s); err != nil && !goneError(err) {
			return err
		}
	}
	return nil
}

func goneError(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

func cpuTime(init int) (time.Duration, error) {
	var sum time.Duration
	err := eachMember(init, func(_ int, s processStat) error {
		sum += s.cpu
		return nil
	})
	return sum, err
}

// residentMemory sums up what the members of a namespace hold.
func residentMemory(init int) (int64, error) {
	var sum int64
	err := eachMember(init, func(pid int, _ processStat) error {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if errors.Is(err, os.ErrNotExist) {
			return nil // it has ended
		}
		if err != nil {
			return err
		}
		var size, resident int64
		_, err = fmt.Sscan(string(text), &size, &resident)
		sum += resident * int64(os.Getpagesize())
		return err
	})
	return sum, err
}

// stopAll returns when all processes of the namespace are stopped.
func stopAll(ctx context.Context, init int) error {
	return until(ctx, func() (bool, error) {
		stopped := true
		err := eachMember(init, func(pid int, s processStat) error {
			if s.state == "T" {
				return nil
			}
			stopped = false
			return syscall.Kill(pid, syscall.SIGSTOP)
		})
		return stopped, err
	})
}

// continueAll returns when no process of the namespace is stopped.
func continueAll(ctx context.Context, init int) error {
	return until(ctx, func() (bool, error) {
		running := true
		err := eachMember(init, func(pid int, s processStat) error {
			if s.state != "T" {
				return nil
			}
			running = false
			return syscall.Kill(pid, syscall.SIGCONT)
		})
		return running, err
	})
}

// until polls a condition.
func until(ctx context.Context, done func() (bool, error)) error {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// recordPID notes a process for the Sweep of a later test.
func recordPID(file string, pid int) error {
	s, err := readStat(pid)
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(fmt.Sprintf("%d %s\n", pid, s.start)), 0o600)
}

// killRecorded ends the process that recordPID noted, if it is still that one.
func killRecorded(ctx context.Context, file string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var pid int
	var start string
	if _, err := fmt.Sscan(string(content), &pid, &start); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	return until(ctx, func() (bool, error) {
		s, err := readStat(pid)
		if goneError(err) || (err == nil && (s.start != start || s.state == "Z")) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !goneError(err) {
			return false, err
		}
		return false, nil
	})
}
