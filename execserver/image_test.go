package execserver_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/execserver"
)

// The server needs nothing of an image: no libc, shell, /proc or /tmp. An OCI
// runtime makes /dev/null.
func TestEmptyImage(t *testing.T) {
	p := built(t)
	root, sockets := publicDir(t), publicDir(t)
	for _, program := range []string{p.static, p.helper} {
		content, err := os.ReadFile(program)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, root+program, string(content), 0o755)
	}
	if err := errors.Join(
		os.Mkdir(root+"/dev", 0o755),
		os.MkdirAll(root+sockets, 0o755),
		unix.Mknod(root+"/dev/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
		os.Chmod(filepath.Dir(root+p.static), 0o755),
	); err != nil {
		t.Fatal(err)
	}
	s := startServer(t, options{
		program: p.static,
		socket:  filepath.Join(sockets, "socket"),
		wrap:    []string{busybox, "chroot", root},
		shell:   "mount --bind " + sockets + " " + root + sockets,
		env:     []string{"GODEBUG=http2debug=2", "LD_PRELOAD=/absent.so", "GOGC=off"},
		scratch: []string{"/scratch"},
	})
	for _, uid := range []uint32{0, nobody} {
		s.ok(t, execserver.Command{Args: []string{p.helper, "nop"}, Dir: "/", UID: uid, GID: uid})
	}
	if got := s.run(t, execserver.Command{Args: []string{p.helper, "unknown"}, Dir: "/scratch"}); got.ExitCode != 1 {
		t.Errorf("got %+v", got)
	}
	if got := s.log.String(); got != "" {
		t.Errorf("the server said %q", got)
	}
}
