package podman_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hearth-build/hearth/runners"
)

// What a person is told to type runs a command as the server does: in a container of the
// same look, with the same rights, and with the inputs where they always are.
func TestRunLine(t *testing.T) {
	b := open(t, options(t.TempDir()))
	inputs := filepath.Join(t.TempDir(), "inputs")
	if err := os.MkdirAll(filepath.Join(inputs, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(inputs, "dir/word"), []byte("from the input root\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const root = runners.ContainerWorkDir + "/root"
	// Podman sets HOME and HOSTNAME, and leaves no capabilities in the bounding set of
	// who is not root: that differs.
	const script = `cat word; id -u; id -g; pwd; hostname; umask; env | grep -v -e ^HOME= -e ^HOSTNAME= | sort; ulimit -n; ls /; ls /home /root 2>&1; grep -E "^(Cap[PEIA]|NoNewPrivs|Seccomp:)" /proc/self/status; ` +
		`cut -d" " -f3 /proc/net/dev | wc -l; awk '{print $5}' /proc/self/mountinfo | grep -v ^/hearth | sort -u; touch /usr/x 2>&1; touch /tmp/x && ls /tmp`
	for _, uid := range []uint32{65534, 0} {
		command := runners.Command{
			Args: []string{"sh", "-c", script}, Env: []string{"A=it's $HOME", "PATH=/usr/bin:/bin"}, Dir: root + "/dir", UID: uid, GID: uid, Timeout: time.Minute,
		}
		r := start(t, b, runners.HostImage)
		if err := os.CopyFS(filepath.Join(r.spec.Dir, runners.WorkDirName, "root"), os.DirFS(inputs)); err != nil {
			t.Fatal(err)
		}
		var served, moaned strings.Builder
		result, err := r.Run(ctx(t), command, &served, &moaned)
		if err != nil || result.ExitCode != 0 {
			t.Fatalf("%+v %v %s", result, err, &moaned)
		}
		platform := runners.Platform{Image: runners.ImageRef{Name: runners.HostImage}, Network: runners.NetworkOff}
		line, err := b.RunLine(platform, command, inputs, root)
		if err != nil {
			t.Fatal(err)
		}
		byHand, err := exec.CommandContext(ctx(t), line[0], line[1:]...).Output()
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if string(byHand) != served.String() {
			t.Errorf("as user %d: by hand\n%s\nby the server\n%s", uid, byHand, served.String())
		}
	}
}
