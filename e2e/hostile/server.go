package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// server attacks the exec server: by reading and changing it, or, if that is its
// argument, by a signal.
func server(args []string) error {
	if len(args) > 0 {
		return signals(args[0])
	}
	for _, name := range []string{"mem", "exe", "root/etc/passwd", "cwd", "environ", "maps", "auxv", "stack", "fd/3", "map_files", "ns/mnt", "syscall", "io"} {
		refused("read /proc/1/"+name, readAny("/proc/1/"+name))
	}
	refused("write to /proc/1/mem", write("/proc/1/mem"))
	refused("trace it", unix.PtraceAttach(1))
	refused("seize it", unix.PtraceSeize(1))
	buf := make([]byte, 16)
	local := []unix.Iovec{{Base: &buf[0], Len: 16}}
	_, err := unix.ProcessVMReadv(1, local, []unix.RemoteIovec{{Base: 0x400000, Len: 16}}, 0)
	refused("read its memory", err)
	_, err = unix.ProcessVMWritev(1, local, []unix.RemoteIovec{{Base: 0x400000, Len: 16}}, 0)
	refused("write to its memory", err)
	refused("take its descriptors", takeDescriptor())
	program()
	refused("talk to it", talk())
	return nil
}

func readAny(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		_, err = os.ReadDir(path)
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Read(make([]byte, 16)); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func write(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte("x"), 0x400000)
	return errors.Join(err, f.Close())
}

func takeDescriptor() error {
	fd, err := unix.PidfdOpen(1, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	taken, err := unix.PidfdGetfd(fd, 3, 0)
	if err == nil {
		unix.Close(taken)
	}
	return err
}

// program tries to change the exec server's file, and what it is in.
func program() {
	const path = "/hearth/bin/execserver"
	refused("write to its program", write(path))
	refused("truncate its program", os.Truncate(path, 0))
	refused("change its program's mode", os.Chmod(path, 0o777))
	refused("remove its program", os.Remove(path))
	refused("put another program there", os.Rename(os.Args[0], path))
	refused("link its program", os.Link(path, "execserver"))
	refused("remove its socket's directory", unix.Rmdir("/hearth/ctl"))
	if os.Getuid() != 0 {
		refused("list its socket's directory", readAny("/hearth/ctl"))
		refused("write to its directory", os.WriteFile("/hearth/x", nil, 0o644))
		refused("write beside the input root", os.WriteFile("/hearth/work/x", nil, 0o644))
	}
}

// talk gets an answer of the exec server. Root can connect to the socket; the
// exec server hangs up on everybody in the container.
func talk() error {
	conn, err := net.DialTimeout("unix", "/hearth/ctl/exec.sock", time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	// The preface of HTTP/2 and empty settings, which a server answers.
	if _, err := io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, 9))
	return err
}

// signals sends all but one of the signals to the exec server, or that one to all.
func signals(which string) error {
	if which == "everybody" {
		return unix.Kill(-1, unix.SIGKILL)
	}
	if which == "settings" {
		return settings()
	}
	number, err := strconv.Atoi(which)
	if err != nil {
		return err
	}
	if err := unix.Kill(1, unix.Signal(number)); err != nil {
		fmt.Printf("signal %d: %v\n", number, err)
	}
	tasks, err := filepath.Glob("/proc/1/task/*")
	if err != nil {
		return err
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(filepath.Base(task))
		if err != nil {
			return err
		}
		if err := unix.Tgkill(1, tid, unix.Signal(number)); err != nil {
			fmt.Printf("signal %d to thread %d: %v\n", number, tid, err)
		}
	}
	return nil
}

// settings changes what later actions would inherit from the exec server. Root may.
func settings() error {
	tell := func(what string, err error) { fmt.Printf("%s: %v\n", what, err) }
	for _, resource := range []int{unix.RLIMIT_CORE, unix.RLIMIT_FSIZE, unix.RLIMIT_STACK, unix.RLIMIT_MSGQUEUE, unix.RLIMIT_SIGPENDING} {
		var old unix.Rlimit
		if err := unix.Prlimit(1, resource, nil, &old); err != nil {
			tell(fmt.Sprint("read limit ", resource), err)
			continue
		}
		low := unix.Rlimit{Cur: 4096, Max: min(old.Max, 1<<20)}
		tell(fmt.Sprint("lower limit ", resource), unix.Prlimit(1, resource, &low, nil))
	}
	tasks, err := filepath.Glob("/proc/1/task/*")
	if err != nil {
		return err
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(strings.TrimPrefix(task, "/proc/1/task/"))
		if err != nil {
			return err
		}
		tell("niceness", unix.Setpriority(unix.PRIO_PROCESS, tid, 7))
		var one unix.CPUSet
		one.Set(0)
		tell("affinity", unix.SchedSetaffinity(tid, &one))
		_, _, errno := unix.RawSyscall(unix.SYS_IOPRIO_SET, 1, uintptr(tid), 3<<13)
		tell("priority of I/O", errno)
		tell("timer slack", os.WriteFile("/proc/"+strconv.Itoa(tid)+"/timerslack_ns", []byte("900000000"), 0))
	}
	tell("end when out of memory", os.WriteFile("/proc/1/oom_score_adj", []byte("1000"), 0))
	tell("core dumps", os.WriteFile("/proc/1/coredump_filter", []byte("0"), 0))
	return nil
}
