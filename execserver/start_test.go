package execserver_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hearth-build/hearth/execserver"
	"github.com/hearth-build/hearth/execserver/execpb"
)

// notStarted fails the test unless the command is refused for a reason.
func (s *server) notStarted(t testing.TB, cmd execserver.Command, want execpb.NotStarted_Reason) string {
	t.Helper()
	got, err := s.try(t, cmd)
	var refused *execserver.StartError
	if !errors.As(err, &refused) {
		t.Errorf("run %.100q: got %+v, %v, want %v", cmd.Args, got, err, want)
		return ""
	}
	if refused.Reason != want {
		t.Errorf("run %.100q: got %v (%v), want %v", cmd.Args, refused.Reason, err, want)
	}
	return refused.Message
}

func TestWhyCommandsAreNotStarted(t *testing.T) {
	s := startServer(t, options{})
	dir := publicDir(t)
	file := func(name, content string, mode os.FileMode) string {
		return writeFile(t, filepath.Join(dir, name), content, mode)
	}
	secret := filepath.Join(dir, "secret")
	file("secret/program", "#!/bin/sh\n", 0o755)
	if err := errors.Join(os.Chmod(secret, 0o700), os.Symlink("loop", dir+"/loop")); err != nil {
		t.Fatal(err)
	}
	elf, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	elf[18] = 0xb7 // another machine
	const (
		notFound      = execpb.NotStarted_NOT_FOUND
		notExecutable = execpb.NotStarted_NOT_EXECUTABLE
		badDirectory  = execpb.NotStarted_BAD_DIRECTORY
	)
	for name, c := range map[string]struct {
		program, dir string
		want         execpb.NotStarted_Reason
		names        string // what the message must contain
	}{
		"absent":                  {dir + "/absent", "/", notFound, dir + "/absent"},
		"below a file":            {busybox + "/x", "/", notFound, busybox + "/x"},
		"symlink to itself":       {dir + "/loop", "/", notFound, dir + "/loop"},
		"name too long":           {"/" + strings.Repeat("n", 300), "/", notFound, "too long"},
		"relative, absent":        {"./busybox", "/", notFound, "./busybox"},
		"not in PATH":             {"no-such-program", "/", notFound, "no-such-program"},
		"no x bit":                {file("data", "x", 0o644), "/", notExecutable, "not marked executable"},
		"a directory":             {dir, "/", notExecutable, "is a directory"},
		"for another user":        {file("root-only", "#!/bin/sh\n", 0o700), "/", notExecutable, "54321"},
		"in a secret directory":   {secret + "/program", "/", notExecutable, "54321"},
		"script without #!":       {file("text", "echo hello\n", 0o755), "/", execpb.NotStarted_BAD_FORMAT, dir + "/text"},
		"empty":                   {file("empty", "", 0o755), "/", execpb.NotStarted_BAD_FORMAT, dir + "/empty"},
		"for another machine":     {file("elf", string(elf), 0o755), "/", execpb.NotStarted_BAD_FORMAT, dir + "/elf"},
		"interpreter absent":      {file("script", "#!/no/such/shell -e\n", 0o755), "/", execpb.NotStarted_NO_INTERPRETER, "interpreter /no/such/shell"},
		"directory absent":        {busybox, dir + "/absent", badDirectory, dir + "/absent"},
		"directory is a file":     {busybox, busybox, badDirectory, busybox},
		"directory is secret":     {busybox, secret, badDirectory, secret},
		"directory relative":      {busybox, "usr", badDirectory, "usr"},
		"directory empty":         {busybox, "", badDirectory, "absolute"},
		"directory, bare name":    {"busybox", dir + "/absent", badDirectory, dir + "/absent"},
		"empty name":              {"", "/", execpb.NotStarted_INVALID, "empty"},
		"NUL in the name":         {busybox + "\x00x", "/", execpb.NotStarted_INVALID, "NUL"},
		"NUL in the directory":    {busybox, "/\x00", badDirectory, "absolute"},
		"two dots out of nowhere": {"../../../../absent", "/", notFound, "absent"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := execserver.Command{Args: []string{c.program, "true"}, Dir: c.dir, UID: nobody, GID: nobody}
			if message := s.notStarted(t, cmd, c.want); !strings.Contains(message, c.names) {
				t.Errorf("message %q does not contain %q", message, c.names)
			}
		})
	}
	s.notStarted(t, execserver.Command{Dir: "/"}, execpb.NotStarted_INVALID)
	s.notStarted(t, execserver.Command{Args: []string{busybox}, Env: []string{"A=\x00"}, Dir: "/"}, execpb.NotStarted_INVALID)
	s.ok(t, shell("exit 0"))
}

func TestTooLarge(t *testing.T) {
	s := startServer(t, options{})
	one := shell("exit 0", strings.Repeat("x", 200<<10)) // the kernel's limit for one is 128 KiB
	s.notStarted(t, one, execpb.NotStarted_TOO_LARGE)
	many := shell("exit 0")
	for range 100 {
		many.Env = append(many.Env, "A="+strings.Repeat("x", 100<<10)) // more than gRPC would take
	}
	s.notStarted(t, many, execpb.NotStarted_TOO_LARGE)
	large := shell(`echo "${#1}"`, strings.Repeat("x", 100<<10))
	if got := s.ok(t, large); got != "102400\n" {
		t.Errorf("got %q", got)
	}
}

// REAPI G18, G19
func TestLookup(t *testing.T) {
	s := startServer(t, options{})
	dir := publicDir(t)
	tell := func(name string, mode os.FileMode) {
		// $0 is the path that the kernel was given.
		writeFile(t, filepath.Join(dir, name), "#!"+busybox+" sh\necho \"$0\"\n", mode)
	}
	tell("here", 0o755)
	tell("a/x", 0o644)
	tell("b/x", 0o755)
	tell("c/x", 0o755)
	tell("root/x", 0o700)
	tell("work/sub/y", 0o755)
	tell("d/x/not-a-file", 0o755)
	writeFile(t, dir+"/broken/x", "#!/no/such/shell\n", 0o755)
	for name, c := range map[string]struct{ program, path, dir, want string }{
		"absolute":                      {dir + "/b/x", "", "/", dir + "/b/x"},
		"relative to the directory":     {"./here", "", dir, "./here"},
		"relative, deeper":              {"sub/y", "", dir + "/work", "sub/y"},
		"relative, upwards":             {"../b/x", "", dir + "/work", "../b/x"},
		"first in PATH":                 {"x", dir + "/c:" + dir + "/b", "/", dir + "/c/x"},
		"no x bit, go on":               {"x", dir + "/a:" + dir + "/b", "/", dir + "/b/x"},
		"other user's, go on":           {"x", dir + "/root:" + dir + "/b", "/", dir + "/b/x"},
		"directory, go on":              {"x", dir + "/d:" + dir + "/b", "/", dir + "/b/x"},
		"absent, go on":                 {"x", "/absent:" + busybox + ":" + dir + "/b", "/", dir + "/b/x"},
		"relative entry":                {"y", "/absent:sub", dir + "/work", "sub/y"},
		"empty entry first":             {"here", ":/bin", dir, "./here"},
		"empty entry last":              {"here", "/bin:", dir, "./here"},
		"empty entry in between":        {"here", "/bin::/usr/bin", dir, "./here"},
		"empty PATH":                    {"here", "", dir, "./here"},
		"server's PATH does not matter": {"x", dir + "/b:/bin", "/", dir + "/b/x"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := execserver.Command{
				Args: []string{c.program}, Env: []string{"PATH=" + c.path}, Dir: c.dir, UID: nobody, GID: nobody,
			}
			if got := s.ok(t, cmd); got != c.want+"\n" {
				t.Errorf("ran %q, want %q", got, c.want)
			}
		})
	}
	refused := func(program, path, dir string, want execpb.NotStarted_Reason) {
		t.Helper()
		s.notStarted(t, execserver.Command{
			Args: []string{program}, Env: []string{"PATH=" + path}, Dir: dir, UID: nobody, GID: nobody,
		}, want)
	}
	refused("x", dir+"/a:/absent", "/", execpb.NotStarted_NOT_EXECUTABLE)
	refused("x", dir+"/root", "/", execpb.NotStarted_NOT_EXECUTABLE)
	refused("x", dir+"/absent", dir+"/b", execpb.NotStarted_NOT_FOUND)
	refused("x", dir+"/broken:"+dir+"/b", "/", execpb.NotStarted_NO_INTERPRETER)
	// Without a PATH there is a default one.
	if got := s.run(t, execserver.Command{Args: []string{"sh", "-c", "exit 3"}, Dir: "/"}); got.ExitCode != 3 {
		t.Errorf("got %+v", got)
	}
}

// An executable that is still open for writing is waited for, a little.
func TestTextFileBusy(t *testing.T) {
	s := startServer(t, options{})
	content, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	path := writeFile(t, publicDir(t)+"/busybox", string(content), 0o755)
	writer, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := execserver.Command{Args: []string{path, "true"}, Dir: "/"}
	if message := s.notStarted(t, cmd, execpb.NotStarted_FAULT); !strings.Contains(message, "busy") {
		t.Errorf("message %q", message)
	}
	closed := make(chan error, 1)
	time.AfterFunc(20*time.Millisecond, func() { closed <- writer.Close() })
	s.ok(t, cmd)
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// A command's timers are as exact as on any Linux, also where those of the server's
// own threads were allowed to be late.
func TestTimerSlack(t *testing.T) {
	s := startServer(t, options{})
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", s.pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("threads %v, %v", threads, err)
	}
	for _, thread := range threads {
		if err := os.WriteFile("/proc/"+filepath.Base(thread)+"/timerslack_ns", []byte("1000000"), 0); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.ok(t, shell("cat /proc/self/timerslack_ns")); got != "50000\n" {
		t.Errorf("the slack of a command's timers is %q", got)
	}
}
