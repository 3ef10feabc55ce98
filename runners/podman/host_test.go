package podman_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/runners"
)

// TestHostImage: the host's programs work, and its secrets are not there, not
// even for root.
func TestHostImage(t *testing.T) {
	dataDir, err := os.MkdirTemp("/opt", "hearth-test-") // where all is shown
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dataDir); err != nil {
			t.Error(err)
		}
	})
	secret := filepath.Join("/etc", filepath.Base(dataDir))
	if err := os.WriteFile(secret, []byte("hush"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(secret); err != nil {
			t.Error(err)
		}
	})
	r := start(t, open(t, options(dataDir)), runners.HostImage)

	if out := r.run(shell("gcc --version")); !strings.Contains(out, "Free Software") {
		t.Errorf("gcc --version: %q", out)
	}
	for _, path := range []string{"/root", "/home", "/srv", "/mnt", "/media", "/var/log", "/var/lib/containers", dataDir} {
		if out := r.run(asRoot("ls -A " + path + " 2>/dev/null || :")); out != "" {
			t.Errorf("%s shows %q", path, out)
		}
	}
	for _, path := range []string{"/etc/shadow", "/etc/gshadow", secret} {
		if out := r.run(asRoot("cat " + path + " 2>/dev/null || :")); out != "" {
			t.Errorf("%s holds %q", path, out)
		}
	}
	top := strings.Fields(r.run(asRoot("for d in /*; do [ -h $d ] || [ ! -d $d ] || [ -z \"$(ls -A $d)\" ] || echo $d; done")))
	for _, dir := range top {
		if !slices.Contains([]string{"/bin", "/dev", "/etc", "/hearth", "/opt", "/proc", "/run", "/sbin", "/sys", "/usr", "/var"}, dir) && !strings.HasPrefix(dir, "/lib") {
			t.Errorf("%s is shown", dir)
		}
	}
	modes := r.run(shell("stat -c '%n %a %u' /tmp /var/tmp /dev/shm /run /run/lock"))
	if want := "/tmp 1777 0\n/var/tmp 1777 0\n/dev/shm 1777 0\n/run 755 0\n/run/lock 1777 0\n"; modes != want {
		t.Errorf("modes:\n%swant:\n%s", modes, want)
	}
}

// TestHostImageWritesNothingToTheHost: writes land in the overlay.
func TestHostImageWritesNothingToTheHost(t *testing.T) {
	r := start(t, open(t, options(t.TempDir())), runners.HostImage)
	name := "/usr/" + r.spec.ID
	r.run(asRoot("echo x > " + name + " && cat " + name))
	if _, err := os.Lstat(name); !os.IsNotExist(err) {
		t.Errorf("%s is on the host: %v", name, err)
	}
}

// TestHostRoot: another directory as the host, with a file system below it.
func TestHostRoot(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"bin", "usr/more", "etc", "secrets", "var/lib/texmf", "var/lib/app", "var/db"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("busybox-static is needed: %v", err)
	}
	for name, content := range map[string]string{"secrets/key": "hush", "var/db/key": "hush", "swap": "hush", "var/lib/texmf/data": "open", "var/lib/app/key": "hush"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "bin/sh"), busybox, 0o755); err != nil {
		t.Fatal(err)
	}
	mounted := filepath.Join(root, "usr/more")
	if err := unix.Mount("tmpfs", mounted, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mounted, 0); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(mounted, "file"), []byte("mounted"), 0o644); err != nil {
		t.Fatal(err)
	}
	opts := options(t.TempDir())
	opts.HostRoot = root
	b := open(t, opts)
	r := start(t, b, runners.HostImage)
	script := "read a < /usr/more/file; read b < /var/lib/texmf/data; echo $a $b; for f in /secrets/* /var/db/* /var/lib/app/*; do echo $f; done; read c < /swap; echo $c"
	if out, want := r.run(asRoot(script)), "mounted open\n/secrets/*\n/var/db/*\n/var/lib/app/*\n\n"; out != want {
		t.Errorf("printed %q, want %q", out, want)
	}
	plain, err := open(t, options(t.TempDir())).Resolve(ctx(t), runners.ImageRef{Name: runners.HostImage})
	if err != nil || plain.ID == r.spec.Image.ID {
		t.Errorf("two roots have one ID, %s (%v)", plain.ID, err)
	}
}

// TestActionsAreConfined: an action's user has no right at all in the container,
// and root no more than the exec server needs.
func TestActionsAreConfined(t *testing.T) {
	r := start(t, open(t, options(t.TempDir())), runners.HostImage)
	status := func(cmd runners.Command) map[string]string {
		fields := map[string]string{}
		for line := range strings.Lines(r.run(cmd)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			fields[name] = strings.TrimSpace(value)
		}
		return fields
	}
	const needed = "00000000000000e0" // KILL, SETGID, SETUID
	nobody, root := status(shell("cat /proc/self/status")), status(asRoot("cat /proc/self/status"))
	for _, name := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
		if nobody[name] != "0000000000000000" {
			t.Errorf("nobody has %s %s", name, nobody[name])
		}
	}
	if root["CapEff"] != needed || root["CapBnd"] != needed || nobody["CapBnd"] != needed {
		t.Errorf("root has %s of %s, nobody may get %s; want %s", root["CapEff"], root["CapBnd"], nobody["CapBnd"], needed)
	}
	if nobody["NoNewPrivs"] != "1" || nobody["Seccomp"] != "2" || nobody["Umask"] != "0022" {
		t.Errorf("NoNewPrivs %s, Seccomp %s, Umask %s", nobody["NoNewPrivs"], nobody["Seccomp"], nobody["Umask"])
	}
	script := `ls /hearth/ctl 2>/dev/null && echo listed
		echo x >> /hearth/bin/execserver && echo changed
		rm -f /hearth/bin/execserver 2>/dev/null; [ -x /hearth/bin/execserver ] || echo removed
		cat /proc/1/environ 2>/dev/null && echo read
		hostname; for f in /sys/class/net/*; do echo ${f##*/}; done`
	if out := r.run(shell("exec 2>/dev/null;" + script)); out != "hearth\nlo\n" {
		t.Errorf("as nobody: %q", out)
	}
	if out := r.run(asRoot("exec 2>/dev/null; echo x >> /hearth/bin/execserver && echo changed; rm -f /hearth/bin/execserver && echo removed; :")); out != "" {
		t.Errorf("as root: %q", out)
	}
}

// TestNetworkBridge: a container with a network has more than the loopback.
func TestNetworkBridge(t *testing.T) {
	b := open(t, options(t.TempDir()))
	spec := newSpec(t, b, runners.HostImage)
	spec.Network = runners.NetworkBridge
	in, err := b.Start(ctx(t), spec)
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{Instance: in, t: t, spec: spec}
	t.Cleanup(r.remove)
	if out := r.run(shell("for f in /sys/class/net/*; do echo ${f##*/}; done")); !strings.Contains(out, "eth0") {
		t.Errorf("interfaces: %q", out)
	}
}

// TestNetworkHost: a container may have the host's own network, and nothing else of
// the host's.
func TestNetworkHost(t *testing.T) {
	b := open(t, options(t.TempDir()))
	spec := newSpec(t, b, runners.HostImage)
	spec.Network = runners.NetworkHost
	in, err := b.Start(ctx(t), spec)
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{Instance: in, t: t, spec: spec}
	t.Cleanup(r.remove)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	same := "readlink /proc/self/ns/net; hostname; (exec 3<>/dev/tcp/127.0.0.1/" + strconv.Itoa(listener.Addr().(*net.TCPAddr).Port) + ") && echo reached"
	ours, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	command := shell(same)
	command.Args[0] = "/bin/bash" // opens connections
	if out := r.run(command); out != ours+"\nhearth\nreached\n" {
		t.Errorf("%q, the host is %s", out, ours)
	}
}

// TestLaterMounts: what the host mounts in a work directory is seen inside, and
// Remove unmounts it.
func TestLaterMounts(t *testing.T) {
	r := start(t, open(t, options(t.TempDir())), runners.HostImage)
	for i := range 3 {
		dir := r.work(fmt.Sprint(i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "file"), fmt.Append(nil, i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out := r.run(shell("cd /hearth/work; cat 0/file 1/file 2/file")); out != "012" {
		t.Errorf("inside: %q", out)
	}
	if err := unix.Unmount(r.work("0"), 0); err != nil {
		t.Fatal(err)
	}
	if out := r.run(shell("cd /hearth/work; cat 0/file 2>/dev/null; cat 1/file")); out != "1" {
		t.Errorf("after one was unmounted: %q", out)
	}
	r.remove()
	if left := mountsBelow(t, r.spec.Dir); len(left) > 0 {
		t.Errorf("still mounted: %q", left)
	}
}

func mountsBelow(t *testing.T, dir string) []string {
	t.Helper()
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(info)) {
		if strings.Contains(line, dir) {
			found = append(found, line)
		}
	}
	return found
}
