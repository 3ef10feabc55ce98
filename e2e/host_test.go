package e2e_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What a user reads when something is wrong with the host that hearth runs on.

// TestPodmanIsMissing: the server starts, its cache works, and Bazel's user
// reads what to install.
func TestPodmanIsMissing(t *testing.T) {
	dataDir := filepath.Join(shortTempDir(t), "data")
	cmd := exec.Command(program(t), serveArgs("/", dataDir)...)
	cmd.Env = []string{"PATH=" + t.TempDir()}
	c := newBazel4(t, startCommand(t, dataDir, cmd))
	c.want(t, remoteError, []string{"build", "//genrules:joined"}, "podman is not installed", "install", "hearth doctor")
}

// TestPodmanDoesNotStart: the error has podman's own words.
func TestPodmanDoesNotStart(t *testing.T) {
	dataDir, path := filepath.Join(shortTempDir(t), "data"), t.TempDir()
	script := "#!/bin/sh\n[ \"$1\" != --version ] || exec echo podman version 4.3.1\necho the disk of podman is on fire >&2\nexit 125\n"
	if err := os.WriteFile(filepath.Join(path, "podman"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program(t), serveArgs("/", dataDir)...)
	cmd.Env = []string{"PATH=" + path + ":" + os.Getenv("PATH")}
	c := newBazel4(t, startCommand(t, dataDir, cmd))
	c.want(t, remoteError, []string{"build", "//genrules:joined"}, "the disk of podman is on fire")
}

// TestDiskFull: the data directory is on a small file system, in a mount
// namespace of its own, which others fill, and then uploads. What does not fit is
// refused with the reason; reading, and builds that only read, go on; and so does
// the rest as soon as there is room. REAPI 0.6, C13, D21
func TestDiskFull(t *testing.T) {
	dataDir := filepath.Join(shortTempDir(t), "data")
	if err := os.Mkdir(dataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	script := `mount -t tmpfs -o size=256m hearth-e2e "$1" && shift && exec "$@"`
	args := append([]string{"-m", "--propagation=private", "sh", "-c", script, "sh", dataDir, program(t)}, serveArgs("/", dataDir)...)
	h := startCommand(t, dataDir, exec.Command("unshare", args...))
	c := newBazel4(t, h)
	cached := []string{"build", "//genrules/...", "//cc:greet"}
	built := c.want(t, 0, cached).processes(t)["remote"]
	onlyReads := func() {
		t.Helper()
		c.want(t, 0, []string{"clean"})
		if ran := c.want(t, 0, cached).processes(t); ran["remote cache hit"] != built {
			t.Errorf("a build on a full disk ran %v, want all %d from the cache", ran, built)
		}
	}
	c.addPackage(t, "large", map[string]string{
		"input.txt":   strings.Repeat("what does not fit\n", 1<<19),
		"BUILD.bazel": "genrule(name = \"copy\", srcs = [\"input.txt\"], outs = [\"output.txt\"], cmd = \"wc -c $< > $@\")\n",
	})
	filler := h.fillDisk(t, 4<<20)
	onlyReads()
	large := []string{"build", "--remote_retries=1", "--verbose_failures", "//large:copy"}
	c.want(t, remoteError, large, "RESOURCE_EXHAUSTED", "no space left")
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	c.want(t, 0, large)

	c.want(t, 0, []string{"clean"})
	c.want(t, 0, cached) // what was tried may have pushed out some of it
	h.fillByUploads(t, onlyReads)
}

// fillByUploads begins uploads until no more is taken, and sees what is possible
// then and when they are over.
func (h *hearth) fillByUploads(t *testing.T, meanwhile func()) {
	t.Helper()
	const size = 44 << 20 // five do not fit
	var uploads []*upload
	for len(uploads) < 4 {
		u := h.beginUpload(t, bytes.Repeat([]byte{byte(len(uploads))}, size))
		uploads = append(uploads, u)
		if err := u.send(size - 1<<20); err != nil {
			t.Fatalf("upload %d: %v", len(uploads), err)
		}
	}
	refused := bytes.Repeat([]byte("too much "), 5<<20)
	wantNoRoom := func(err error) {
		t.Helper()
		s := status.Convert(err)
		retry := slices.ContainsFunc(s.Details(), func(d any) bool { _, ok := d.(*errdetails.RetryInfo); return ok })
		if s.Code() != codes.ResourceExhausted || !retry {
			t.Errorf("on a full disk: %v with details %v, want RESOURCE_EXHAUSTED and when to try again", err, s.Details())
		}
	}
	wantNoRoom(h.beginUpload(t, refused).finish())
	meanwhile()
	// What has begun is taken to its end.
	for i, u := range uploads {
		if err := u.finish(); err != nil {
			t.Errorf("upload %d: %v", i, err)
		}
		h.holds(t, []*repb.Digest{u.digest})
	}
	// And now it is there, older blobs can make room for new ones.
	if err := h.beginUpload(t, refused).finish(); err != nil {
		t.Errorf("when there is room: %v", err)
	}
	h.holds(t, []*repb.Digest{digestOf(refused)})
}

// fillDisk fills the file system of the data directory, as hearth sees it, but
// for so many bytes, and returns the file that does.
func (h *hearth) fillDisk(t *testing.T, free uint64) string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/root%s", h.cmd.Process.Pid, h.dataDir)
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	available := st.Bavail * uint64(st.Bsize)
	if available < free {
		t.Fatalf("only %d bytes are free in %s", available, dir)
	}
	name := filepath.Join(dir, "filler")
	if err := os.WriteFile(name, make([]byte, available-free), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestPortInUse: a second server says which flag to change, and leaves the
// first one alone.
func TestPortInUse(t *testing.T) {
	h := startHearth(t, "/")
	address := strings.TrimPrefix(h.endpoint(t), "grpc://")
	out, err := exec.Command(program(t), "serve", "--listen="+address, "--console=127.0.0.1:0", "--data-dir="+t.TempDir()).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "--listen "+address+" is in use") {
		t.Errorf("%v: %s", err, out)
	}
	h.nops(t, 1)
}

// TestInputIsLost: Bazel believes that an output is on the server, which has
// lost its store. // REAPI F45, F60
func TestInputIsLost(t *testing.T) {
	dataDir := filepath.Join(shortTempDir(t), "data")
	first := startHearthOn(t, sidRoot(t), dataDir)
	c := newBazel7(t, first)
	c.want(t, 0, []string{"build", "--remote_download_minimal", "//genrules:left", "//genrules:right"})
	first.stop(t)
	if err := os.RemoveAll(dataDir); err != nil {
		t.Fatal(err)
	}
	c.use(t, startHearthOn(t, sidRoot(t), dataDir))
	r := c.run(t, "build", "--remote_download_minimal", "//genrules:joined")
	if r.exit != 0 && !strings.Contains(r.output, "issing") {
		t.Errorf("Bazel ended with %d and did not say that something is missing:\n%s", r.exit, r.output)
	}
	c.want(t, 0, []string{"clean"})
	c.want(t, 0, []string{"build", "--remote_download_minimal", "//genrules:joined"})
}
