package podman_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// elsewhere is what of these tests is run again on other kinds of hosts: all
// but what does that.
const (
	notElsewhere = "^TestOn"
	short        = "^(TestHostImage|TestImage|TestFreezeIsFast|TestMemoryRunsOut|TestManySmallProcesses|TestServerRunsOutOfMemory|TestFullTmp|TestActionsAreConfined|TestRunnersAreLimited|TestCloseLeavesNothing|TestProbe|TestPodmanExec)$"
)

// TestOnCgroupV1 is about this host's podman without the cgroup v2 that may be
// mounted beside v1. (Where v2 is alone, there is no v1 to be had, and it is
// about that once more.)
func TestOnCgroupV1(t *testing.T) {
	runElsewhere(t, exec.Command("unshare", "--mount", "--propagation", "private", script(t), "v1", testBinary(t), "-test.run", short, "-test.skip", notElsewhere))
}

// TestOnDebianUnstable is about a newer podman, crun, and cgroup v2 alone.
func TestOnDebianUnstable(t *testing.T) {
	runElsewhere(t, inUnstable(t, "v2", "-test.skip", notElsewhere))
}

// TestOnDebianUnstableWithCgroupV1 is about that podman on older hosts.
func TestOnDebianUnstableWithCgroupV1(t *testing.T) {
	runElsewhere(t, inUnstable(t, "v1", "-test.run", short, "-test.skip", notElsewhere))
}

func inUnstable(t *testing.T, cgroups string, args ...string) *exec.Cmd {
	t.Helper()
	root := unstableRoot(t)
	enter, err := filepath.Abs("../../e2e/setup/in-sid.sh")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(enter, append([]string{root, script(t), cgroups, testBinary(t)}, args...)...)
	server := os.Getenv(envExecServer)
	cmd.Env = append(os.Environ(),
		"SID_PIDNS=1",
		"SID_BIND="+filepath.Dir(script(t))+" "+testBinary(t)+" "+server,
		"SID_ENV=OWN_STORE=1 "+envExecServer+"="+server)
	return cmd
}

// unstableRoot is where make test has made the root.
func unstableRoot(t *testing.T) string {
	t.Helper()
	root := os.Getenv("SID_ROOT")
	if root == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		root = filepath.Join(cache, "hearth", "sid")
	}
	if _, err := os.Stat(filepath.Join(root, "usr/bin/podman")); err != nil {
		t.Fatalf("there is no Debian unstable root with podman at %s: make it with e2e/setup/sid-root.sh", root)
	}
	return root
}

func script(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("testdata/cgroups.sh")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func testBinary(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func runElsewhere(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if testing.Verbose() {
		cmd.Args = append(cmd.Args, "-test.v")
	}
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Run(); err != nil {
		t.Errorf("%v: %v", cmd.Args, err)
	}
}
