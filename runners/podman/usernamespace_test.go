package podman_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/podman"
)

// Root in a container of an image is nobody on the host. What it could do to others, the
// hostile actions of e2e try.
func TestUserNamespace(t *testing.T) {
	opts := options(t.TempDir())
	opts.UserNamespaces = podman.UserNamespacesOn
	b := open(t, opts)
	r := start(t, b, importImage(t, layer(t, busybox(t)...)))
	root := runners.RootOf(r.Instance)
	if root == 0 {
		t.Fatal("the container's root is the host's")
	}
	if out := r.run(asRoot("cat /proc/self/uid_map /proc/self/gid_map; id -u; echo x > /etc/file && cat /etc/file")); strings.Join(strings.Fields(out), " ") !=
		fmt.Sprintf("0 %d 65536 0 %d 65536 0 x", root, root) {
		t.Errorf("root has %q", out)
	}
	if out := r.run(shell("id -u; echo x > /tmp/file && cat /tmp/file")); out != "65534\nx\n" {
		t.Errorf("nobody has %q", out)
	}
	for _, user := range []int{0, 65534} {
		dir := r.work(fmt.Sprint("of-", user))
		if err := errors.Join(os.Mkdir(dir, 0o755), os.Chown(dir, root+user, root+user)); err != nil {
			t.Fatal(err)
		}
		cmd := shell(fmt.Sprintf("cd %s/of-%d && busybox stat -c %%u . && echo x > file", runners.ContainerWorkDir, user))
		cmd.UID, cmd.GID = uint32(user), uint32(user)
		if out := r.run(cmd); out != fmt.Sprintln(user) {
			t.Errorf("user %d finds its directory to be that of %q", user, out)
		}
	}
	if host := start(t, b, runners.HostImage); runners.RootOf(host.Instance) != 0 {
		t.Error("the image host is said to be in a user namespace")
	}
}

// Without user namespaces, as for all with an engine that cannot have them, a container is
// as it was before.
func TestNoUserNamespace(t *testing.T) {
	opts := options(t.TempDir())
	opts.UserNamespaces = podman.UserNamespacesOff
	r := start(t, open(t, opts), importImage(t, layer(t, busybox(t)...)))
	if out := r.run(asRoot("cat /proc/self/uid_map")); runners.RootOf(r.Instance) != 0 || strings.Join(strings.Fields(out), " ") != "0 0 4294967295" {
		t.Errorf("root of the host is %d in %q", runners.RootOf(r.Instance), out)
	}
}

// Where a container cannot start in a user namespace, those of images run without, and
// the log says so, unless that was ruled out.
func TestUserNamespaceCannotBeHad(t *testing.T) {
	image := importImage(t, layer(t, busybox(t)...))
	var log bytes.Buffer
	opts := options(t.TempDir())
	opts.Socket = userService(t, userConf(t, withoutUserNamespaces(t)))
	opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
	b := open(t, opts)
	for range 4 {
		r := start(t, b, image)
		if out := r.run(shell("id -u")); runners.RootOf(r.Instance) != 0 || out != "65534\n" {
			t.Errorf("root of the host is %d, and the user is %s", runners.RootOf(r.Instance), out)
		}
	}
	if strings.Count(log.String(), "no user namespaces today") != 3 || !strings.Contains(log.String(), "--user-namespaces=off") {
		t.Errorf("the log says %s", log.String())
	}
	opts.DataDir, opts.UserNamespaces = t.TempDir(), podman.UserNamespacesOn
	b = open(t, opts)
	spec := newSpec(t, b, image)
	in, err := b.Start(ctx(t), spec)
	if err == nil {
		err = in.Remove(ctx(t))
		t.Errorf("it started without, and was removed: %v", err)
	} else if !strings.Contains(err.Error(), "no user namespaces today") {
		t.Error(err)
	}
	if left, err := os.ReadDir(spec.Dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// withoutUserNamespaces is a runtime that starts no container in a user namespace.
func withoutUserNamespaces(t *testing.T) (path string) {
	t.Helper()
	runtime := "crun"
	if hybrid() {
		runtime = "runc"
	}
	path = filepath.Join(t.TempDir(), runtime)
	script := `#!/bin/sh
for last; do
  if [ "$before" = --bundle ] && grep -q uidMappings "$last/config.json"; then
    echo "no user namespaces today" >&2
    exit 1
  fi
  before=$last
done
exec /usr/bin/` + runtime + ` "$@"
`
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
