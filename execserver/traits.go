package execserver

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// traits are what a process hands on to those that it starts and root in the
// container can change from outside of it, without any capability: a command that
// is root could so change what later ones get.
type traits struct {
	limits [limitCount]unix.Rlimit
	// dump is which memory goes into core dumps.
	dump []byte
	// threads are all alike: a process is started by any of them.
	threads thread
}

// limitCount is how many resource limits Linux has.
const limitCount = unix.RLIMIT_RTTIME + 1

// thread is how the kernel schedules a thread.
type thread struct {
	policy unix.SchedAttr
	cpus   unix.CPUSet
	disk   uintptr // priority of its I/O
}

// readTraits reads those of this process as it was started.
func readTraits() (*traits, error) {
	t := &traits{}
	var err error
	if t.limits, t.dump, err = readShared(); err != nil {
		return nil, err
	}
	if t.threads, err = readThread(0); err != nil {
		return nil, err
	}
	return t, nil
}

// check fails if anything has changed.
func (t *traits) check() error {
	limits, dump, err := readShared()
	if err != nil {
		return err
	}
	if limits != t.limits || !bytes.Equal(dump, t.dump) {
		return errors.New("a command changed the limits of the exec server, which others would inherit")
	}
	ids, err := threadIDs()
	if err != nil {
		return err
	}
	for _, id := range ids {
		now, err := readThread(id)
		if errors.Is(err, unix.ESRCH) {
			continue // it has ended since
		}
		if err != nil {
			return err
		}
		if now != t.threads {
			return errors.New("a command changed how the exec server is scheduled, which others would inherit")
		}
	}
	return nil
}

// readShared reads what the threads have in common.
func readShared() (limits [limitCount]unix.Rlimit, dump []byte, err error) {
	for i := range limits {
		if err := unix.Prlimit(0, i, nil, &limits[i]); err != nil {
			return limits, nil, fmt.Errorf("read a limit of the exec server: %w", err)
		}
	}
	dump, err = os.ReadFile("/proc/self/coredump_filter")
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return limits, dump, err
}

// threadIDs are those of this process; without /proc the kernel has others tell
// nothing of them.
func threadIDs() ([]int, error) {
	tasks, err := os.ReadDir("/proc/self/task")
	if errors.Is(err, fs.ErrNotExist) {
		return []int{0}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the threads of the exec server: %w", err)
	}
	ids := make([]int, len(tasks))
	for i, task := range tasks {
		if ids[i], err = strconv.Atoi(task.Name()); err != nil {
			return nil, fmt.Errorf("list the threads of the exec server: %w", err)
		}
	}
	return ids, nil
}

// readThread reads a thread of this process; 0 is the one that asks.
func readThread(id int) (thread, error) {
	const ofProcess = 1 // IOPRIO_WHO_PROCESS
	var t thread
	attr, err := unix.SchedGetAttr(id, 0)
	if err != nil {
		return t, fmt.Errorf("read how the exec server is scheduled: %w", err)
	}
	t.policy = *attr
	if err := unix.SchedGetaffinity(id, &t.cpus); err != nil {
		return t, fmt.Errorf("read the CPUs of the exec server: %w", err)
	}
	disk, _, errno := unix.RawSyscall(unix.SYS_IOPRIO_GET, ofProcess, uintptr(id), 0)
	if errno != 0 {
		return t, fmt.Errorf("read the I/O priority of the exec server: %w", errno)
	}
	t.disk = disk
	return t, nil
}
