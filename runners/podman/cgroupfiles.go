package podman

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupFiles are the open files of one container's cgroups: to read or write
// them takes some microseconds. A nil file means that the host does not offer it.
type cgroupFiles struct {
	*meter
	v2Freezer bool
	freeze    *os.File // freezer.state, cgroup.freeze
	frozen    *os.File // the same, cgroup.events
	v2CPU     bool
	cpu       *os.File // cpuacct.usage, cpu.stat
	procs     string   // where the processes are listed
}

// openCgroup opens what can be had of a container's files. What cannot is told,
// and is no reason to give up: podman offers slower ways.
func (c cgroups) openCgroup(pid int, containerID string) (*cgroupFiles, error) {
	if !c.ofContainers() {
		return &cgroupFiles{meter: &meter{}}, nil
	}
	o := &opener{in: func(controller string) (string, bool, error) { return c.directory(pid, containerID, controller) }}
	f := &cgroupFiles{meter: o.openMeter()}
	f.freeze, f.v2Freezer = o.open("freezer", os.O_RDWR, "freezer.state", "cgroup.freeze")
	f.frozen, _ = o.open("freezer", os.O_RDONLY, "freezer.state", "cgroup.events")
	f.cpu, f.v2CPU = o.open("cpuacct", os.O_RDONLY, "cpuacct.usage", "cpu.stat")
	if f.freeze != nil {
		f.procs = filepath.Join(filepath.Dir(f.freeze.Name()), "cgroup.procs")
	}
	return f, errors.Join(o.errs...)
}

func (f *cgroupFiles) close() error {
	var errs []error
	for _, file := range append(f.files(), f.freeze, f.frozen, f.cpu) {
		if file != nil {
			errs = append(errs, file.Close())
		}
	}
	return errors.Join(errs...)
}

// opener opens files in the cgroups of one container.
type opener struct {
	// in finds the directory that has a controller.
	in   func(controller string) (dir string, v2 bool, err error)
	errs []error // of what should be there
}

// open notes an error and returns nil for what cannot be opened.
func (o *opener) open(controller string, flag int, v1, v2 string) (file *os.File, isV2 bool) {
	file, isV2, err := o.attempt(controller, flag, v1, v2)
	if err != nil {
		o.errs = append(o.errs, err)
	}
	return file, isV2
}

// try is open for what many hosts do not have.
func (o *opener) try(controller string, flag int, v1, v2 string) (file *os.File, isV2 bool) {
	file, isV2, _ = o.attempt(controller, flag, v1, v2)
	return file, isV2
}

func (o *opener) attempt(controller string, flag int, v1, v2 string) (file *os.File, isV2 bool, err error) {
	dir, isV2, err := o.in(controller)
	if err != nil {
		return nil, isV2, err
	}
	name := v1
	if isV2 {
		name = v2
	}
	file, err = os.OpenFile(filepath.Join(dir, name), flag, 0)
	return file, isV2, err
}

// canFreeze tells whether the cgroup can be frozen by its files.
func (f *cgroupFiles) canFreeze() bool { return f.freeze != nil && f.frozen != nil }

// setFrozen freezes or thaws the cgroup and returns when that has happened.
func (f *cgroupFiles) setFrozen(ctx context.Context, frozen bool) error {
	order, want := "THAWED", "THAWED"
	switch {
	case f.v2Freezer && frozen:
		order, want = "1", "frozen 1"
	case f.v2Freezer:
		order, want = "0", "frozen 0"
	case frozen:
		order, want = "FROZEN", "FROZEN"
	}
	// The kernel is mostly done at once; a process in the middle of a long
	// system call is awaited.
	for delay := 10 * time.Microsecond; ; delay = min(2*delay, 10*time.Millisecond) {
		if _, err := f.freeze.WriteAt([]byte(order), 0); err != nil {
			return fmt.Errorf("write %s to %s: %w", order, f.freeze.Name(), err)
		}
		is, err := readAll(f.frozen)
		if err != nil {
			return err
		}
		if bytes.Contains(is, []byte(want)) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s says %s: %w", f.frozen.Name(), want, context.Cause(ctx))
		case <-time.After(delay):
		}
	}
}

// cpuTime is what the cgroup has used.
func (f *cgroupFiles) cpuTime() (time.Duration, error) {
	text, err := readAll(f.cpu)
	if err != nil {
		return 0, err
	}
	if !f.v2CPU {
		n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		return time.Duration(n), err
	}
	n, err := value(text, "usage_usec")
	return time.Duration(n) * time.Microsecond, err
}

// value finds the number of a line "name 12".
func value(text []byte, name string) (int64, error) {
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 2 && fields[0] == name {
			return strconv.ParseInt(fields[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("there is no %s in %q", name, text)
}

// readAll reads a short file of the kernel.
func readAll(f *os.File) ([]byte, error) { return readInto(f, make([]byte, 1024)) }

// readInto reads a file of a cgroup, which the kernel makes anew at each read and
// gives out in one piece, as far as there is room for whole lines.
func readInto(f *os.File, buf []byte) ([]byte, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	n, failed := 0, error(nil)
	err = conn.Read(func(fd uintptr) bool {
		for {
			if n, failed = unix.Pread(int(fd), buf, 0); failed != unix.EINTR {
				return true
			}
		}
	})
	if err := errors.Join(err, failed); err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	if n == len(buf) {
		n = bytes.LastIndexByte(buf, '\n') + 1
	}
	return buf[:n], nil
}

// processes lists the processes of the cgroup.
func (f *cgroupFiles) processes() ([]int, error) {
	text, err := os.ReadFile(f.procs)
	if err != nil {
		return nil, err
	}
	var pids []int
	for line := range strings.Lines(string(text)) {
		pid, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.procs, err)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}
