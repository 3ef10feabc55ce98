package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// client is one Bazel with a scratch copy of the workspace.
type client struct {
	workspace string // the copy
	command   []string
	env       []string
}

// bazelTimeout is far more than the longest of these builds takes.
const bazelTimeout = 5 * time.Minute

// newBazel4 is Debian 12's Bazel, run on the host, which builds on server.
func newBazel4(t *testing.T, server *hearth) *client {
	t.Helper()
	bazel, err := exec.LookPath("bazel")
	if err != nil {
		t.Fatalf("%v: install it with `.ci/install.sh test`", err)
	}
	scratch := shortTempDir(t)
	// Bazel 4 reads file names in UTF-8 in this locale alone.
	env := []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + scratch, "LC_ALL=C.UTF-8"}
	return newClient(t, scratch, "bazel4-offline.sh", server, []string{bazel}, env)
}

// newBazel7 is Debian unstable's Bazel, run in the root directory of that
// distribution, which builds on server. It may have more startup options.
func newBazel7(t *testing.T, server *hearth, startup ...string) *client {
	t.Helper()
	scratch := shortTempDir(t)
	env := append(os.Environ(), "SID_BIND="+scratch, "SID_CWD="+filepath.Join(scratch, "workspace"))
	command := append([]string{setup(t, "in-sid.sh"), sidRoot(t), "bazel"}, startup...)
	return newClient(t, scratch, "bazel7-offline.sh", server, command, env)
}

// newClient writes what Bazel reads into scratch.
func newClient(t *testing.T, scratch, offline string, server *hearth, command, env []string) *client {
	t.Helper()
	c := &client{workspace: filepath.Join(scratch, "workspace"), env: env}
	if err := os.CopyFS(c.workspace, os.DirFS("workspace")); err != nil {
		t.Fatalf("copy the workspace: %v", err)
	}
	c.use(t, server)
	without := filepath.Join(scratch, "offline")
	if out, err := exec.Command(setup(t, offline), without).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", offline, err, out)
	}
	c.command = append(command,
		"--output_user_root="+filepath.Join(scratch, "bazel"),
		"--bazelrc="+filepath.Join(without, "offline.bazelrc"),
		"--host_jvm_args=-Xmx1g",
		"--max_idle_secs=300", // should this test be killed
	)
	t.Cleanup(func() {
		if r := c.run(t, "shutdown"); r.exit != 0 {
			t.Errorf("bazel shutdown failed:\n%s", r.output)
		}
	})
	return c
}

// use makes the client build on server, by the lines that it told its user to
// add to the .bazelrc.
func (c *client) use(t *testing.T, server *hearth) {
	t.Helper()
	plain := "common --color=no --curses=no --noshow_progress\n"
	if err := os.WriteFile(filepath.Join(c.workspace, ".bazelrc"), []byte(plain+server.bazelrc), 0o644); err != nil {
		t.Fatal(err)
	}
}

// result is what a user sees of one run of Bazel.
type result struct {
	exit    int
	output  string // standard output and standard error, as in a terminal
	elapsed time.Duration
}

// run runs one Bazel command.
func (c *client) run(t *testing.T, args ...string) result {
	t.Helper()
	// Not the test's own context: that of a clean-up is over.
	r, err := c.exec(context.WithoutCancel(t.Context()), args...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// exec runs one Bazel command. It fails only if there is no result.
func (c *client) exec(ctx context.Context, args ...string) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, bazelTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.command[0], append(c.command[1:len(c.command):len(c.command)], args...)...)
	cmd.Dir, cmd.Env = c.workspace, c.env
	cmd.WaitDelay = 10 * time.Second
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	start := time.Now()
	err := cmd.Run()
	r := result{output: output.String(), elapsed: time.Since(start)}
	var exit *exec.ExitError
	if ctx.Err() == nil && errors.As(err, &exit) {
		r.exit = exit.ExitCode()
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("bazel %s (%v): %w\n%s", strings.Join(args, " "), r.elapsed, err, r.output)
	}
	return r, nil
}

// want runs one Bazel command, which must end with exit and print every one of texts.
func (c *client) want(t *testing.T, exit int, args []string, texts ...string) result {
	t.Helper()
	r := c.run(t, args...)
	if r.exit != exit {
		t.Errorf("bazel %s ended with %d, want %d", strings.Join(args, " "), r.exit, exit)
	}
	for _, text := range texts {
		if !strings.Contains(r.output, text) {
			t.Errorf("bazel %s did not print %q", strings.Join(args, " "), text)
		}
	}
	if t.Failed() {
		t.Fatalf("it printed:\n%s", r.output)
	}
	return r
}

// processes is how many actions ran in which way, by Bazel's closing line:
// "INFO: 80 processes: 38 internal, 42 remote."
func (r result) processes(t *testing.T) map[string]int {
	t.Helper()
	line := regexp.MustCompile(`(?m)^INFO: \d+ process(?:es)?: (.*)\.$`).FindStringSubmatch(r.output)
	if line == nil {
		t.Fatalf("Bazel did not say how many processes ran where:\n%s", r.output)
	}
	counts := map[string]int{}
	for part := range strings.SplitSeq(line[1], ", ") {
		number, kind, _ := strings.Cut(part, " ")
		n, err := strconv.Atoi(number)
		if err != nil {
			t.Fatalf("cannot read %q: %v", line[0], err)
		}
		counts[kind] = n
	}
	return counts
}

// read is the contents of a file below the workspace's bazel-bin or bazel-testlogs.
func (c *client) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(c.workspace, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// setup is the absolute path of a script in e2e/setup.
func setup(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("setup", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// sidRoot is the Debian unstable root directory.
func sidRoot(t *testing.T) string { return debianRoot(t, "sid", os.Getenv("SID_ROOT")) }

// debianRoot is one of the Debian root directories, in the cache unless it is elsewhere.
func debianRoot(t *testing.T, name, elsewhere string) string {
	t.Helper()
	root := elsewhere
	if root == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		root = filepath.Join(cache, "hearth", name)
	}
	if _, err := os.Stat(filepath.Join(root, "usr/bin/bazel")); err != nil {
		t.Fatalf("%v: make the Debian root with `make %s`", err, name)
	}
	return root
}

// shortTempDir is a directory for this test; the name of t.TempDir is too long
// for sockets below it.
func shortTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hearth-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("a test left something that cannot be removed: %v", err)
		}
	})
	return dir
}
