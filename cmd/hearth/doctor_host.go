package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// host looks at what no part of hearth asks for by itself until it fails.
type host struct {
	f *findings
	// proc is /proc.
	proc string
}

// ids sees to it that the users that actions run as are there: in a container or
// another user namespace they may not be.
func (h host) ids() {
	const root, nobody = 0, 65534
	for _, name := range []string{"uid_map", "gid_map"} {
		ranges, err := os.ReadFile(filepath.Join(h.proc, "self", name))
		if err != nil {
			h.f.show("user IDs", false, err.Error(), "mount /proc")
			return
		}
		if !mapped(string(ranges), root) || !mapped(string(ranges), nobody) {
			h.f.show("user IDs", false, fmt.Sprintf("the user namespace of hearth lacks %d or %d, which actions run as: %s has %q", root, nobody, name, strings.Fields(string(ranges))),
				"give the user that starts hearth's container at least 65536 IDs in /etc/subuid and /etc/subgid, or start it as root")
			return
		}
	}
	h.f.show("user IDs", true, "0 and 65534, which actions run as, are there", "")
}

// mapped reports whether an ID is in the lines FIRST OUTSIDE COUNT of a map.
func mapped(lines string, id int64) bool {
	for line := range strings.Lines(lines) {
		var first, outside, count int64
		if n, _ := fmt.Sscan(line, &first, &outside, &count); n == 3 && id >= first && id-first < count {
			return true
		}
	}
	return false
}

// kernel names what this one lacks.
func (h host) kernel() {
	var lacks []string
	for _, ns := range []string{"ipc", "mnt", "net", "pid", "uts"} {
		if _, err := os.Stat(filepath.Join(h.proc, "self", "ns", ns)); err != nil {
			lacks = append(lacks, ns+" namespaces")
		}
	}
	if _, err := os.Stat(filepath.Join(h.proc, "sys/kernel/seccomp/actions_avail")); err != nil {
		lacks = append(lacks, "seccomp filters")
	}
	if fd, err := unix.PidfdOpen(os.Getpid(), 0); err != nil {
		lacks = append(lacks, "pidfds")
	} else {
		_ = unix.Close(fd) // nothing was written to it
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		h.f.show("kernel", false, err.Error(), "")
		return
	}
	release := unix.ByteSliceToString(u.Release[:])
	if len(lacks) > 0 {
		h.f.show("kernel", false, fmt.Sprintf("%s has no %s", release, strings.Join(lacks, ", no ")), "use a kernel that has it: those of distributions do")
		return
	}
	h.f.show("kernel", true, release+" has namespaces, seccomp and pidfds", "")
}

// What a data directory needs at least to be of use.
const (
	leastFree  = 5 << 30
	leastFiles = 100_000
)

// disk looks at the room in the data directory.
func (h host) disk(dir string) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		h.f.show("disk", false, fmt.Sprintf("%s: %v", dir, err), "choose another with --data-dir")
		return
	}
	free, files := int64(s.Bavail)*s.Bsize, int64(math.MaxInt64)
	if s.Files > 0 { // else they are made as they are needed
		files = int64(s.Ffree)
	}
	detail := fmt.Sprintf("%s has %s free", dir, units.BytesSize(float64(free)))
	switch {
	case free < leastFree:
		h.f.show("disk", false, detail, "free some, or choose a data directory on a larger disk with --data-dir: the store takes four fifths of what is free (--max-bytes)")
	case files < leastFiles:
		h.f.show("disk", false, fmt.Sprintf("%s, but room for %d files only", detail, files), "delete files there, or make the file system anew with more inodes")
	default:
		h.f.show("disk", true, detail, "")
	}
}

// clock finds one that cannot be right.
func (h host) clock(now time.Time) {
	self, err := os.Executable()
	if err != nil {
		h.f.show("clock", false, err.Error(), "")
		return
	}
	info, err := os.Stat(self)
	if err != nil {
		h.f.show("clock", false, err.Error(), "")
		return
	}
	if made := info.ModTime(); now.Before(made.Add(-time.Minute)) {
		h.f.show("clock", false, fmt.Sprintf("it is %v, before this program was made (%v)", now.Format(time.RFC3339), made.Format(time.RFC3339)),
			"set the clock, for example with `timedatectl set-ntp true`: certificates and tokens are judged by it")
		return
	}
	detail := now.Format(time.RFC3339)
	var t unix.Timex
	if state, err := unix.Adjtimex(&t); err == nil && (state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0) {
		detail += ", which the kernel does not call synchronised; certificates and tokens are judged by it"
	}
	h.f.show("clock", true, detail, "")
}

// port tries to listen where a server would.
func (h host) port(ctx context.Context, flag, address string) {
	if strings.HasPrefix(address, unixScheme) {
		return // whose file may be there
	}
	l, err := net.Listen("tcp", address)
	switch {
	case err == nil:
		h.f.show("port", true, fmt.Sprintf("--%s %s is free", flag, address), "")
		_ = l.Close() // nobody has connected
	case errors.Is(err, syscall.EADDRINUSE) && answers(ctx, address):
		h.f.show("port", true, fmt.Sprintf("--%s %s: a server answers there", flag, address), "")
	default:
		h.f.show("port", false, fmt.Sprintf("--%s: %v", flag, err),
			"end the program that listens there, unless it is a hearth that serves by TLS; or choose another address with --"+flag)
	}
}

// answers reports whether a console, or a server of the API, is at an address.
func answers(ctx context.Context, address string) bool {
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if healthy(ctx, address) {
		return true
	}
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return false
	}
	_, err = grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	return errors.Join(err, conn.Close()) == nil
}

// healthy reports whether a console is at an address.
func healthy(ctx context.Context, address string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/healthz", http.NoBody)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}
