package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// confined tries to leave the container. Its arguments are what of the host must
// be out of reach: paths, abstract sockets (@NAME) and addresses (HOST:PORT).
func confined(args []string) error {
	namespaces()
	mounts()
	devices()
	calls()
	sockets()
	network()
	for _, a := range args {
		switch {
		case strings.HasPrefix(a, "/"):
			refused("read "+a, readSome(a))
			if os.Getuid() == 0 { // it can become the owner
				refused("read "+a+" as its owner", asOther(func() error { return readSome(a) }))
			}
		case strings.HasPrefix(a, "@"):
			refused("connect to "+a, connect("unix", a))
		default:
			refused("connect to "+a, connect("tcp", a))
		}
	}
	return nil
}

func connect(network, address string) error {
	conn, err := net.DialTimeout(network, address, time.Second)
	if err != nil {
		return err
	}
	return errors.Join(conn.Close(), nil)
}

func namespaces() {
	for name, flag := range map[string]uintptr{
		"user": unix.CLONE_NEWUSER, "mount": unix.CLONE_NEWNS, "PID": unix.CLONE_NEWPID, "network": unix.CLONE_NEWNET,
		"IPC": unix.CLONE_NEWIPC, "UTS": unix.CLONE_NEWUTS, "cgroup": unix.CLONE_NEWCGROUP,
	} {
		refused("unshare the "+name+" namespace", unix.Unshare(int(flag)))
		refused("clone into a "+name+" namespace", fork(unix.SYS_CLONE, flag|uintptr(unix.SIGCHLD), 0))
		cloneArgs := [8]uint64{0: uint64(flag), 4: uint64(unix.SIGCHLD)}
		refused("clone3 into a "+name+" namespace", fork(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&cloneArgs)), unsafe.Sizeof(cloneArgs)))
	}
	refused("enter the exec server's namespaces", enter("/proc/1/ns/mnt"))
	refused("enter its own mount namespace", enter("/proc/self/ns/mnt"))
}

func enter(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Setns(fd, 0)
}

// fork makes a process that ends at once.
func fork(call, a, b uintptr) error {
	pid, _, errno := unix.RawSyscall(call, a, b, 0)
	if errno != 0 {
		return errno
	}
	if pid == 0 {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	_, err := unix.Wait4(int(pid), nil, 0, nil)
	return err
}

func mounts() {
	here, err := os.Getwd()
	if err != nil {
		refused("know where it is", err)
	}
	refused("mount a tmpfs", unix.Mount("none", "/tmp", "tmpfs", 0, ""))
	refused("mount proc", unix.Mount("proc", "/tmp", "proc", 0, ""))
	refused("bind", unix.Mount("/", "/tmp", "", unix.MS_BIND|unix.MS_REC, ""))
	refused("remount", unix.Mount("", "/hearth/bin/execserver", "", unix.MS_REMOUNT|unix.MS_BIND, ""))
	refused("make mounts shared", unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""))
	refused("unmount the input root", unix.Unmount(here, unix.MNT_DETACH))
	refused("unmount /proc", unix.Unmount("/proc", unix.MNT_DETACH))
	refused("pivot the root", unix.PivotRoot("/tmp", "/tmp"))
	refused("change the root", unix.Chroot("/tmp"))
	_, err = unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE)
	refused("clone mounts", err)
	_, err = unix.Fsopen("tmpfs", 0)
	refused("open a file system", err)
}

func devices() {
	for name, dev := range map[string]uint64{"b-disk": unix.Mkdev(254, 0), "c-mem": unix.Mkdev(1, 1), "c-kmsg": unix.Mkdev(1, 11), "c-fuse": unix.Mkdev(10, 229)} {
		kind := uint32(unix.S_IFCHR)
		if name[0] == 'b' {
			kind = unix.S_IFBLK
		}
		for _, dir := range []string{"/tmp", "/dev/shm", ".", "/dev"} {
			refused("make the device "+filepath.Join(dir, name), unix.Mknod(filepath.Join(dir, name), kind|0o666, int(dev)))
		}
	}
	names, err := os.ReadDir("/dev")
	if err != nil {
		refused("list /dev", err)
	}
	usual := " console core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero "
	for _, name := range names {
		if strings.Contains(usual, " "+name.Name()+" ") {
			continue
		}
		f, err := os.Open("/dev/" + name.Name())
		refused("open /dev/"+name.Name(), err)
		if err == nil {
			f.Close()
		}
	}
}

// calls are system calls that no action needs.
func calls() {
	for name, number := range map[string]uintptr{
		"bpf": unix.SYS_BPF, "perf_event_open": unix.SYS_PERF_EVENT_OPEN, "userfaultfd": unix.SYS_USERFAULTFD,
		"io_uring_setup": unix.SYS_IO_URING_SETUP, "init_module": unix.SYS_INIT_MODULE, "kexec_load": unix.SYS_KEXEC_LOAD,
		"reboot": unix.SYS_REBOOT, "swapon": unix.SYS_SWAPON, "settimeofday": unix.SYS_SETTIMEOFDAY, "sethostname": unix.SYS_SETHOSTNAME,
		"quotactl": unix.SYS_QUOTACTL, "open_by_handle_at": unix.SYS_OPEN_BY_HANDLE_AT, "acct": unix.SYS_ACCT,
		"name_to_handle_at": unix.SYS_NAME_TO_HANDLE_AT, "add_key": unix.SYS_ADD_KEY, "request_key": unix.SYS_REQUEST_KEY,
	} {
		_, _, errno := unix.RawSyscall(number, 0, 0, 0)
		if errno == unix.EPERM || errno == unix.ENOSYS {
			refused(name, errno)
		} else { // it got as far as its arguments
			refused(fmt.Sprintf("%s, which ends with %d,", name, errno), nil)
		}
	}
	_, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_USER_KEYRING, true)
	refused("use the keys of its user", err)
	_, err = unix.KeyctlJoinSessionKeyring("hearth-e2e")
	refused("make a named keyring", err)
	refused("change a sysctl", os.WriteFile("/proc/sys/kernel/core_pattern", []byte("|/tmp/x"), 0))
	refused("change the IPC namespace's sysctl", os.WriteFile("/proc/sys/kernel/shmmax", []byte("1"), 0))
	refused("change the network namespace's sysctl", os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
	refused("press keys", os.WriteFile("/proc/sysrq-trigger", []byte("b"), 0))
	refused("write to /sys", os.WriteFile("/sys/kernel/mm/transparent_hugepage/enabled", []byte("never"), 0))
	refused("read the kernel's memory", read("/proc/kcore"))
	refused("read the kernel's log", read("/dev/kmsg"))
	refused("read other keys", readSome("/proc/keys"))
	cgroups, _ := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	more, _ := filepath.Glob("/sys/fs/cgroup/cgroup.procs")
	for _, path := range append(cgroups, more...) {
		refused("leave the cgroup by "+path, os.WriteFile(path, []byte("0"), 0))
		dir := filepath.Dir(path) + "/mine"
		refused("make the cgroup "+dir, os.Mkdir(dir, 0o755))
	}
	refused("give itself a higher priority", unix.Setpriority(unix.PRIO_PROCESS, 0, -5))
}

func read(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := f.Read(make([]byte, 64))
	if n == 0 && err != nil {
		return err // nothing is behind a mask
	}
	return nil
}

// readSome is read for files that are not empty for others.
func readSome(path string) error {
	text, err := os.ReadFile(path)
	if err == nil && len(text) == 0 {
		return errors.New("it is empty")
	}
	return err
}

// sockets of other kinds than programs talk to each other by: some, such as those
// between a virtual machine and its host, belong to no network namespace.
func sockets() {
	for name, family := range map[string]int{"vsock": unix.AF_VSOCK, "packet": unix.AF_PACKET, "alg": unix.AF_ALG, "tipc": unix.AF_TIPC, "can": unix.AF_CAN, "bluetooth": unix.AF_BLUETOOTH} {
		for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_SEQPACKET, unix.SOCK_RAW} {
			fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
			refused(fmt.Sprintf("make a socket of %s, kind %d", name, kind), err)
			if err == nil {
				unix.Close(fd)
			}
		}
	}
	_, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	refused("make a raw socket", err)
}

// network is off: there is the loopback interface alone, and no route.
func network() {
	interfaces, err := net.Interfaces()
	if err != nil || len(interfaces) != 1 || interfaces[0].Name != "lo" {
		refused(fmt.Sprintf("see the interfaces %v (%v)", interfaces, err), nil)
	}
	routes, err := os.ReadFile("/proc/net/route")
	if err != nil || strings.Count(string(routes), "\n") != 1 { // the heading
		refused(fmt.Sprintf("see routes: %q (%v)", routes, err), nil)
	}
	refused("reach another host", connect("tcp", "192.0.2.1:80"))
	listener, err := net.Listen("tcp", "127.0.0.1:0") // which tests need
	if err != nil {
		refused(fmt.Sprintf("lose its own loopback interface (%v)", err), nil)
		return
	}
	if err := errors.Join(connect("tcp", listener.Addr().String()), listener.Close()); err != nil {
		refused(fmt.Sprintf("lose its own loopback interface (%v)", err), nil)
	}
}
