package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/memory"
	"github.com/hearth-build/hearth/cas/tree"
)

// newInputRoots prepares input roots in a directory, and returns what is logged.
func newInputRoots(t *testing.T, dataDir, mode string) (*inputRoots, *bytes.Buffer, error) {
	t.Helper()
	log := &bytes.Buffer{}
	r := &inputRoots{dataDir: dataDir, logger: slog.New(slog.NewTextHandler(log, nil))}
	t.Cleanup(func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
	return r, log, r.prepare(mode, 1<<30)
}

// overlayDir is a directory in which no input root can be mounted.
func overlayDir(t *testing.T) string {
	t.Helper()
	at := t.TempDir()
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(at, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	merged := filepath.Join(at, "merged")
	if err := unix.Mount("overlay", merged, "overlay", 0, fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", at)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(merged, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return merged
}

func TestInputRootsAreChosen(t *testing.T) {
	for name, tc := range map[string]struct {
		dir, mode string
		mounted   bool
		logs      string
		fails     string
	}{
		"auto":         {t.TempDir(), "auto", true, "input roots are mounted", ""},
		"mount":        {t.TempDir(), "mount", true, "input roots are mounted", ""},
		"copy":         {t.TempDir(), "copy", false, "", ""},
		"auto cannot":  {overlayDir(t), "auto", false, "links and copies", ""},
		"mount cannot": {overlayDir(t), "mount", false, "", "--input-roots mount"},
	} {
		t.Run(name, func(t *testing.T) {
			r, log, err := newInputRoots(t, tc.dir, tc.mode)
			if tc.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tc.fails) || !strings.Contains(err.Error(), "overlay") {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			_, stager, err := r.open(memory.New(0))
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := stager.(*tree.Mounter); ok != tc.mounted || !strings.Contains(log.String(), tc.logs) {
				t.Errorf("%T, logged %q", stager, log)
			}
			if told := describeInputRoots(tc.dir); strings.HasPrefix(told, "mounted") != (tc.mounted || tc.mode == "copy") {
				t.Errorf("doctor says %q", told)
			}
		})
	}
}

// What a crashed hearth left goes away, whatever the next one does.
func TestInputRootsAreSwept(t *testing.T) {
	dir := t.TempDir()
	left := []string{filepath.Join(dir, "roots/0/images/1/mnt"), filepath.Join(dir, "runners/r/work/root")}
	for _, at := range left {
		if err := os.MkdirAll(at, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", at, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
	}
	_, log, err := newInputRoots(t, dir, "copy")
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || bytes.Contains(mounts, []byte(dir)) {
		t.Errorf("mounts are left (%v)", err)
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "roots")); err != nil || len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
	if !strings.Contains(log.String(), "unmounted what an earlier hearth left") {
		t.Errorf("logged %q", log)
	}
}

// When the store loses something, all is looked for again.
func TestInputRootsForget(t *testing.T) {
	r, _, err := newInputRoots(t, t.TempDir(), "auto")
	if err != nil {
		t.Fatal(err)
	}
	store := memory.New(0)
	keeper, _, err := r.open(store)
	if err != nil {
		t.Fatal(err)
	}
	empty, err := cas.PutBytes(t.Context(), store, cas.SHA256, nil)
	if err != nil {
		t.Fatal(err)
	}
	first, release, err := keeper.Keep(t.Context(), empty)
	if err != nil {
		t.Fatal(err)
	}
	release()
	same, release, err := keeper.Keep(t.Context(), empty)
	if err != nil || same != first {
		t.Errorf("another graph, %v", err)
	}
	release()
	r.forget()
	other, release, err := keeper.Keep(t.Context(), empty)
	if err != nil || other == first {
		t.Errorf("the same graph, %v", err)
	}
	release()
}
