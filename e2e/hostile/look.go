package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// look prints what an action can tell of its surroundings, so that two of them
// print the same if neither knows of the other.
func look([]string) error {
	runner, err := inRunner()
	if err != nil {
		return err
	}
	fmt.Println(runner)
	entriesOf("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run", "/hearth", "/dev", ".")
	for _, path := range []string{
		"/proc/sysvipc/shm", "/proc/sysvipc/sem", "/proc/sysvipc/msg", "/proc/self/limits", "/proc/1/limits", "/proc/1/oom_score_adj",
		"/proc/self/oom_score_adj", "/proc/1/coredump_filter", "/proc/self/coredump_filter", "/proc/net/route", "/proc/sys/kernel/shmmax", "/proc/sys/kernel/hostname",
	} {
		text, err := os.ReadFile(path)
		fmt.Printf("%s: %v\n%s", path, err, text)
	}
	processes()
	scheduling()
	status()
	mountPoints()
	descriptors()
	fmt.Println("environment:", os.Environ())
	for network, address := range map[string]string{"unix": "@hearth-e2e-left", "tcp": "127.0.0.1:4711"} {
		conn, err := net.DialTimeout(network, address, time.Second)
		if err == nil {
			conn.Close()
			fmt.Println("somebody listens at", address)
		}
	}
	for _, dir := range []string{"/tmp", "/var/tmp", "/dev/shm"} {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		fmt.Println("used of", dir, st.Blocks-st.Bfree, "blocks,", st.Files-st.Ffree, "files", err)
	}
	return nil
}

// inRunner tells which runner this is: the directory of its socket on the host.
func inRunner() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 4 && fields[4] == "/hearth/ctl" {
			return fields[3], nil
		}
	}
	return "", errors.New("this is no runner of hearth's: nothing is mounted at /hearth/ctl")
}

// entriesOf lists directories with modes, owners, and the contents of files.
func entriesOf(dirs ...string) {
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			var st unix.Stat_t
			if err != nil || unix.Lstat(path, &st) != nil {
				fmt.Printf("%q: %v\n", path, err)
				return nil
			}
			line := fmt.Sprintf("%q %o %d:%d", path, st.Mode, st.Uid, st.Gid)
			// The directory may call what is mounted on a file one.
			if st.Mode&unix.S_IFMT == unix.S_IFREG {
				sum := sha256.Sum256(nil)
				if text, err := os.ReadFile(path); err == nil {
					sum = sha256.Sum256(text)
				}
				line += fmt.Sprintf(" %d %s", st.Size, hex.EncodeToString(sum[:8]))
			}
			fmt.Println(line)
			if path == "/dev/pts" || path == "/hearth/work/root" {
				return fs.SkipDir
			}
			return nil
		})
		if err != nil {
			fmt.Println(dir, err)
		}
	}
}

func processes() {
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	var comms []string
	for _, name := range names {
		text, _ := os.ReadFile(name)
		comms = append(comms, strings.TrimSpace(string(text)))
	}
	slices.Sort(comms)
	fmt.Println("processes:", comms, err)
}

// scheduling is that of this process, and of the one that starts all.
func scheduling() {
	one, err := filepath.Glob("/proc/1/task/*")
	if err != nil {
		fmt.Println(err)
	}
	seen := map[string]bool{}
	for _, task := range append(one, "/proc/self/task/0") {
		tid := 0
		if _, err := fmt.Sscanf(filepath.Base(task), "%d", &tid); err != nil {
			fmt.Println(err)
		}
		nice, err := unix.Getpriority(unix.PRIO_PROCESS, tid)
		var set unix.CPUSet
		setErr := unix.SchedGetaffinity(tid, &set)
		policy, _, _ := unix.RawSyscall(unix.SYS_SCHED_GETSCHEDULER, uintptr(tid), 0, 0)
		io, _, _ := unix.RawSyscall(unix.SYS_IOPRIO_GET, 1, uintptr(tid), 0)
		seen[fmt.Sprintln("nice", 20-nice, err, "CPUs", set.Count(), setErr, "policy", policy, "I/O", io, "self", tid == 0)] = true
	}
	for line := range seen {
		defer fmt.Print(line)
	}
}

// status prints what a process inherits.
func status() {
	// Not of the first thread, which may be starting another one, with all signals blocked.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	text, err := os.ReadFile("/proc/thread-self/status")
	fmt.Println("status:", err)
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(line, ":")
		if slices.Contains([]string{"Umask", "Uid", "Gid", "Groups", "SigBlk", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"}, name) {
			fmt.Print(line)
		}
	}
	slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	fmt.Println("timer slack:", slack, err)
	where, err := os.Getwd()
	fmt.Println("directory:", where, err)
}

func mountPoints() {
	text, err := os.ReadFile("/proc/self/mountinfo")
	fmt.Println("mounts:", err)
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		_, after, _ := strings.Cut(line, " - ")
		kind, _, _ := strings.Cut(after, " ")
		fmt.Println(fields[4], fields[5], kind)
	}
}

func descriptors() {
	names, err := filepath.Glob("/proc/self/fd/*")
	for _, name := range names {
		target, err := os.Readlink(name)
		target, _, _ = strings.Cut(target, ":[")
		if err == nil && !strings.HasPrefix(target, "anon_inode") {
			fmt.Println("descriptor", filepath.Base(name), target)
		}
	}
	fmt.Println("descriptors:", err)
}
