package execserver_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hearth-build/hearth/execserver"
	"github.com/hearth-build/hearth/execserver/execpb"
)

// scratchDir makes a directory like /tmp, beside a file that must survive.
func scratchDir(t *testing.T) (dir, canary string) {
	t.Helper()
	parent := publicDir(t)
	dir = filepath.Join(parent, "scratch")
	if err := os.Mkdir(dir, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	return dir, writeFile(t, filepath.Join(parent, "keep", "canary"), "x", 0o666)
}

// REAPI G16
func TestScratchIsEmptied(t *testing.T) {
	p := built(t)
	for name, script := range map[string]string{
		"nothing":            "",
		"files":              `cd $1; touch a .b "c d" -- -e; printf x > "$(printf 'new\nline')"; ln a hard; mkfifo fifo`,
		"trees":              `cd $1; mkdir -p a/b/c/d a/b2; touch a/b/c/d/f a/b2/f a/f`,
		"many files":         `cd $1; mkdir m; i=0; while [ $i -lt 1000 ]; do : > m/f$i; : > f$i; i=$((i+1)); done`,
		"closed directories": `cd $1; mkdir -p a/b/c; touch a/b/c/f; chmod 000 a/b/c; chmod 000 a/b; chmod 500 a`,
		"sticky":             `cd $1; mkdir -p a/b; touch a/b/f; chmod 1777 a a/b`,
		"symbolic links":     `cd $1; ln -s ../keep dir; ln -s ../keep/canary file; ln -s loop loop; mkdir sub; ln -s ../../keep sub/dir; ln -s .. up`,
		"left by a daemon":   `cd $1; setsid sh -c 'while :; do mkdir -p a/b; : > a/b/$RANDOM; done' & sleep 0.1`,
	} {
		for _, uid := range []uint32{0, nobody} {
			t.Run(fmt.Sprintf("%s of user %d", name, uid), func(t *testing.T) {
				dir, canary := scratchDir(t)
				s := startServer(t, options{scratch: []string{dir}})
				cmd := shell(script, dir)
				cmd.UID, cmd.GID = uid, uid
				s.ok(t, cmd)
				if got := s.ok(t, shell("ls -A $1", dir)); got != "" {
					t.Errorf("left: %q", got)
				}
				assertScratch(t, dir, canary)
			})
		}
	}
	t.Run("deep", func(t *testing.T) {
		dir, canary := scratchDir(t)
		s := startServer(t, options{scratch: []string{dir}})
		// The names that deep trees get on their way up are taken, too.
		s.ok(t, shell("mkdir $1/hearth-1 $1/hearth-3; touch $1/hearth-1/f $1/hearth-2; exec $2 dig $1 2000", dir, p.helper))
		if got := s.ok(t, shell("ls -A $1", dir)); got != "" {
			t.Errorf("left: %q", got)
		}
		assertScratch(t, dir, canary)
	})
}

func assertScratch(t *testing.T, dir, canary string) {
	t.Helper()
	if !exists(canary) {
		t.Error("a symbolic link was followed")
	}
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != os.ModeDir|os.ModeSticky|0o777 {
		t.Errorf("the directory has mode %v", info.Mode())
	}
}

// A container may have taken away what lets root pass over permissions.
func TestScratchWithoutCapabilities(t *testing.T) {
	p := built(t)
	dir, canary := scratchDir(t)
	s := startServer(t, options{scratch: []string{dir}, wrap: []string{p.helper, "drop-capabilities"}})
	cmd := shell(`cd $1; mkdir -p a/b/c; touch a/b/c/f a/f; chmod 000 a/b/c/f; chmod 000 a/b/c; chmod 000 a/b; chmod 500 a; $2 dig $1 300`, dir, p.helper)
	cmd.UID, cmd.GID = nobody, nobody
	s.ok(t, cmd)
	if got := s.ok(t, shell("ls -A $1", dir)); got != "" {
		t.Errorf("left: %q", got)
	}
	assertScratch(t, dir, canary)
}

func TestScratchKeepsModeAndOwner(t *testing.T) {
	dir, canary := scratchDir(t)
	s := startServer(t, options{scratch: []string{dir}})
	s.ok(t, shell("chmod 700 $1; chown 5:6 $1; touch $1/x", dir))
	if got := s.ok(t, shell("stat -c '%a %u %g' $1", dir)); got != "1777 0 0\n" {
		t.Errorf("mode and owner are %s", got)
	}
	assertScratch(t, dir, canary)
}

func TestScratchIsMade(t *testing.T) {
	dir := filepath.Join(publicDir(t), "new")
	s := startServer(t, options{scratch: []string{dir}})
	if got := s.ok(t, shell("stat -c %a $1", dir)); got != "1777\n" {
		t.Errorf("mode %s", got)
	}
}

// A container whose scratch cannot be emptied runs nothing any more.
func TestScratchThatCannotBeEmptied(t *testing.T) {
	for name, script := range map[string]string{
		"mount":      "mkdir $1/m; mount -t tmpfs none $1/m; touch $1/m/f",
		"replaced":   "rm -r $1; ln -s / $1",
		"is removed": "rmdir $1",
	} {
		t.Run(name, func(t *testing.T) {
			dir, canary := scratchDir(t)
			other := publicDir(t)
			s := startServer(t, options{scratch: []string{other, dir}})
			s.ok(t, shell(script, dir))
			for range 2 {
				message := s.notStarted(t, shell("exit 0"), execpb.NotStarted_FAULT)
				if !strings.Contains(message, dir) {
					t.Errorf("message %q does not name %s", message, dir)
				}
			}
			if !strings.Contains(s.log.String(), dir) {
				t.Errorf("the server's log %q does not name %s", s.log, dir)
			}
			if !exists(canary) {
				t.Error("the canary is gone")
			}
		})
	}
}

// What a command that timed out left is removed as well.
func TestScratchIsEmptiedAfterTimeout(t *testing.T) {
	dir, canary := scratchDir(t)
	s := startServer(t, options{scratch: []string{dir}})
	cmd := shell("mkdir $1/a; cd $1/a; while :; do : > $RANDOM; done", dir)
	cmd.Timeout = 100 * time.Millisecond
	if got := s.run(t, cmd); !got.TimedOut {
		t.Errorf("got %+v", got)
	}
	if got := s.ok(t, execserver.Command{Args: []string{busybox, "ls", "-A", dir}, Dir: dir}); got != "" {
		t.Errorf("left: %q", got)
	}
	assertScratch(t, dir, canary)
}
