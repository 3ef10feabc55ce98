package tree_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas/tree"
)

// forbidOpenat2 makes openat2 fail for the rest of this process's life, as
// kernels before 5.6 and some containers' filters do.
func forbidOpenat2(t *testing.T) {
	t.Helper()
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // the number of the system call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_OPENAT2, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		t.Fatalf("install a seccomp filter: %v", errno)
	}
	if fd, err := unix.Openat2(unix.AT_FDCWD, ".", &unix.OpenHow{}); err != unix.ENOSYS {
		t.Fatalf("openat2 still gives %d, %v", fd, err)
	}
}

// Without openat2 all works the same, but for links inside the root.
func TestWithoutOpenat2(t *testing.T) {
	if !inChild(t, &syscall.SysProcAttr{}) {
		return
	}
	forbidOpenat2(t)
	t.Run("stage", TestStage)
	t.Run("deep", TestStageDeep)
	t.Run("remove", TestRemove)
	t.Run("remove deep", TestRemoveDeep)
	t.Run("tree", TestCaptureTree)
	t.Run("change", TestCaptureWhileFilesChange)
	t.Run("links", func(t *testing.T) { // REAPI G29, G45
		checkLeaks(t)
		root, secret := outputs(t), t.TempDir()
		write(t, filepath.Join(secret, "passwd"), "secret", 0o644)
		must(t, os.Symlink(secret, filepath.Join(root, "out")))
		r := capture(t, newStore(), root, &repb.Command{OutputPaths: []string{"out/passwd", "out", "w/todir/sub/f", "w/file"}})
		equalLines(t, summary(r), []string{`file "w/file" 5 false`, `link "out" -> ` + secret})
		wantInvalid(t, tree.Prepare(root, parse(t, &repb.Command{OutputPaths: []string{"out/x"}}), nobodys()), `"out"`)
		wantInvalid(t, tree.Prepare(root, parse(t, &repb.Command{WorkingDirectory: "out"}), nobodys()), `"out"`)
		equalLines(t, snapshot(t, secret), []string{"passwd -rw-r--r-- secret"})
	})
}
