package podman_test

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/podman"
)

// TestFreezeIsFast: it is the files of the cgroup that are written, which podman,
// if it is asked, takes several times as long for, on this machine as it is now.
func TestFreezeIsFast(t *testing.T) {
	r := start(t, open(t, options(t.TempDir())), runners.HostImage)
	const rounds = 20
	best := func() time.Duration {
		best := time.Hour
		for range rounds {
			begin := time.Now()
			if err := r.Freeze(ctx(t)); err != nil {
				t.Fatal(err)
			}
			if err := r.Thaw(ctx(t)); err != nil {
				t.Fatal(err)
			}
			best = min(best, time.Since(begin))
		}
		return best
	}
	files := best()
	if err := podman.ForgetCgroup(r.Instance); err != nil {
		t.Fatal(err)
	}
	asked := best()
	t.Logf("freeze and thaw take %v, and %v if podman is asked", files, asked)
	if 2*files > asked {
		t.Errorf("freeze and thaw take %v, and %v if podman is asked", files, asked)
	}
}

// TestWithoutCgroupFiles: podman is asked for what hearth may not do itself.
func TestWithoutCgroupFiles(t *testing.T) {
	r := start(t, open(t, options(t.TempDir())), runners.HostImage)
	if err := podman.ForgetCgroup(r.Instance); err != nil {
		t.Fatal(err)
	}
	r.run(shell("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"))
	if used, err := r.CPUTime(ctx(t)); used <= 0 || err != nil {
		t.Errorf("CPU time: %v %v", used, err)
	}
	if res, err := r.Run(ctx(t), shell("true"), io.Discard, io.Discard); res.Memory != (runners.Memory{}) || err != nil {
		t.Errorf("%+v %v", res, err)
	}
	for range 2 {
		if err := r.Freeze(ctx(t)); err != nil {
			t.Fatal(err)
		}
		if err := r.Thaw(ctx(t)); err != nil {
			t.Fatal(err)
		}
	}
	r.run(shell("true"))
	if err := r.Freeze(ctx(t)); err != nil {
		t.Fatal(err)
	}
	r.remove() // paused as podman knows it
}

// TestProbe: the host that runs these tests is a good one.
func TestProbe(t *testing.T) {
	dataDir := t.TempDir()
	names := map[string]bool{}
	for _, f := range podman.Probe(ctx(t), options(dataDir)) {
		t.Logf("%v %s: %s %s", f.OK, f.Name, f.Detail, f.Fix)
		if !f.OK || f.Detail == "" {
			t.Errorf("%+v", f)
		}
		names[f.Name] = true
		if f.Name == "image store" {
			checkRoom(t, f.Detail)
		}
	}
	for _, name := range []string{"user", "podman", "cgroups", "OCI runtime", "freezer", "ulimits", "memory", "podman service", "image store", "image host", "mounts"} {
		if !names[name] {
			t.Errorf("nothing is said of %s", name)
		}
	}
	if left := mountsBelow(t, "hearth-doctor-"); len(left) > 0 {
		t.Errorf("mounts: %q", left)
	}
	if entries, err := os.ReadDir(dataDir); len(entries) > 0 || err != nil {
		t.Errorf("left in the data directory: %v %v", entries, err)
	}
}

// checkRoom sees that what is said to be free in the store of images can be used, which is
// less than what no file takes.
func checkRoom(t *testing.T, detail string) {
	t.Helper()
	root, _, _ := strings.Cut(detail, ",")
	var fs unix.Statfs_t
	if err := unix.Statfs(root, &fs); err != nil {
		t.Fatal(err)
	}
	free := int64(fs.Bavail) * fs.Bsize >> 30
	for _, gib := range []int64{free - 1, free, free + 1} { // other tests may take some meanwhile
		if strings.HasSuffix(detail, fmt.Sprintf(", %d GiB free", gib)) {
			return
		}
	}
	t.Errorf("%q: %d GiB are free for podman", detail, free)
}

// TestProbeBesideAServer: it disturbs nothing.
func TestProbeBesideAServer(t *testing.T) {
	dataDir := t.TempDir()
	r := start(t, open(t, options(dataDir)), runners.HostImage)
	service := servicePID(t, dataDir)
	for _, f := range podman.Probe(ctx(t), options(dataDir)) {
		if !f.OK {
			t.Errorf("%+v", f)
		}
	}
	if servicePID(t, dataDir) != service || !alive(service) {
		t.Error("the service of the server is another")
	}
	r.run(shell("true"))
}

// TestProbeTellsEveryProblem: podman is missing, and the host's root is none.
func TestProbeTellsEveryProblem(t *testing.T) {
	opts := options(t.TempDir())
	opts.Podman, opts.HostRoot = "no-such-podman", "/no/such/root"
	problems := map[string]podman.Finding{}
	for _, f := range podman.Probe(ctx(t), opts) {
		if !f.OK {
			problems[f.Name] = f
		}
	}
	for _, name := range []string{"podman", "podman service", "image host"} {
		if f := problems[name]; f.Detail == "" || f.Fix == "" {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if !strings.Contains(problems["podman"].Fix, "apt-get install podman") {
		t.Errorf("%+v", problems["podman"])
	}
}
