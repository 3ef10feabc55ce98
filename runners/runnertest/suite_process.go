package runnertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/hearth-build/hearth/runners"
)

// nobody is the user that actions run as.
const nobody = 65534

func processTests() map[string]func(*bench) {
	return map[string]func(*bench){
		"exit code":          testExitCode,
		"signal":             testSignal,
		"output":             testOutput,
		"broken output":      testBrokenOutput,
		"environment":        testEnvironment,
		"user":               testUser,
		"directory":          testDirectory,
		"not started":        testNotStarted,
		"timeout":            testTimeout,
		"grace":              testGrace,
		"cancel":             testCancel,
		"leftovers":          testLeftovers,
		"apart":              testApart,
		"frozen is frozen":   testFrozenIsFrozen,
		"cpu time":           testCPUTime,
		"memory":             testMemory,
		"removed when busy":  testRemovedWhenBusy,
		"frozen when busy":   testRemovedWhenBusyAndFrozen,
		"hundred one by one": testHundred,
		"worker":             testWorker,
	}
}

func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func testExitCode(b *bench) {
	r := b.start()
	for _, want := range []int{0, 1, 42, 255} {
		if res, _ := r.run(shell(fmt.Sprintf("exit %d", want))); res.ExitCode != want || res.Signal != 0 || res.TimedOut {
			b.Errorf("exit %d: %+v", want, res)
		}
	}
}

func testSignal(b *bench) {
	r := b.start()
	for _, want := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if res, _ := r.run(shell(fmt.Sprintf("kill -%d $$", want))); res.Signal != want {
			b.Errorf("killed by signal %d: %+v", want, res)
		}
	}
}

func testOutput(b *bench) {
	r := b.start()
	var stdout, stderr bytes.Buffer
	cmd := shell(`printf 'a\000b\377'; printf 'c\n' >&2; head -c 1000000 /dev/zero`)
	if _, err := r.Run(b.ctx(), cmd, &stdout, &stderr); err != nil {
		b.Fatal(err)
	}
	if want := "a\x00b\xff" + strings.Repeat("\x00", 1000000); stdout.String() != want || stderr.String() != "c\n" {
		b.Errorf("%d bytes on stdout, %q on stderr", stdout.Len(), &stderr)
	}
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

func testBrokenOutput(b *bench) {
	r := b.start()
	broken := errors.New("broken on purpose")
	if _, err := r.Run(b.ctx(), shell("echo x; exec sleep 3600"), brokenWriter{broken}, io.Discard); err == nil {
		b.Error("nobody could read the output, and there was no error")
	}
}

func testEnvironment(b *bench) {
	r := b.start()
	cmd := runners.Command{
		Args: []string{"env"},
		Env:  []string{"PATH=/usr/bin:/bin", "EMPTY=", "LINES=1\n2", "EQUALS=a=b"},
		Dir:  runners.ContainerWorkDir,
	}
	_, out := r.run(cmd)
	if want := strings.Join(cmd.Env, "\n") + "\n"; out != want {
		b.Errorf("environment %q, want %q", out, want)
	}
}

func testUser(b *bench) {
	r := b.start()
	if err := os.Mkdir(r.work("root"), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.Chown(r.work("root"), nobody, nobody); err != nil {
		b.Fatal(err)
	}
	cmd := shell("id -u; id -g; id -G; echo x > mine; echo x > ../other && echo wrote || echo refused")
	cmd.UID, cmd.GID, cmd.Dir = nobody, nobody, runners.ContainerWorkDir+"/root"
	if _, out := r.run(cmd); out != "65534\n65534\n65534\nrefused\n" {
		b.Errorf("as nobody: %q", out)
	}
	info, err := os.Stat(r.work("root/mine"))
	if err != nil {
		b.Fatal(err)
	}
	if st := info.Sys().(*syscall.Stat_t); st.Uid != nobody || st.Gid != nobody {
		b.Errorf("its file is of %d:%d", st.Uid, st.Gid)
	}
	if out := r.ok("id -u; id -g; id -G"); out != "0\n0\n0\n" {
		b.Errorf("as root: %q", out)
	}
}

func testDirectory(b *bench) {
	r := b.start()
	if err := os.MkdirAll(r.work("root/a b"), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(r.work("root/a b/in"), []byte("from the host"), 0o644); err != nil {
		b.Fatal(err)
	}
	cmd := shell("cat in; echo from the runner > out")
	cmd.Dir = runners.ContainerWorkDir + "/root/a b"
	if _, out := r.run(cmd); out != "from the host" {
		b.Errorf("read %q", out)
	}
	if out, err := os.ReadFile(r.work("root/a b/out")); string(out) != "from the runner\n" {
		b.Errorf("wrote %q: %v", out, err)
	}
}

func testNotStarted(b *bench) {
	r := b.start()
	cases := map[string]runners.Command{
		"no program":   {Args: []string{"hearth-no-such-program"}, Dir: runners.ContainerWorkDir},
		"no file":      {Args: []string{"/hearth/no/such/program"}, Dir: runners.ContainerWorkDir},
		"no directory": {Args: []string{"true"}, Dir: runners.ContainerWorkDir + "/none"},
	}
	for name, cmd := range cases {
		_, err := r.Run(b.ctx(), cmd, io.Discard, io.Discard)
		var start *runners.StartError
		if !errors.As(err, &start) || start.Fault() || start.Message == "" {
			b.Errorf("%s: %v", name, err)
		}
	}
	r.ok("true") // it is as good as before
}

func testTimeout(b *bench) {
	r := b.start()
	cmd := shell("echo begun; exec sleep 3600")
	cmd.Timeout = 200 * time.Millisecond
	res, out := r.run(cmd)
	if !res.TimedOut || res.Signal != syscall.SIGKILL || res.Duration < cmd.Timeout || out != "begun\n" {
		b.Errorf("%+v, printed %q", res, out)
	}
	cmd = shell("true")
	cmd.Timeout = patience
	if res, _ := r.run(cmd); res.TimedOut || res.ExitCode != 0 {
		b.Errorf("in time: %+v", res)
	}
}

func testGrace(b *bench) {
	r := b.start()
	cmd := shell("trap 'echo asked; exit 3' TERM; while :; do sleep 0.01; done")
	cmd.Timeout, cmd.Grace = 300*time.Millisecond, patience
	if res, out := r.run(cmd); !res.TimedOut || res.ExitCode != 3 || out != "asked\n" {
		b.Errorf("%+v, printed %q", res, out)
	}
}

func testCancel(b *bench) {
	r := b.start()
	stop := r.background(shell(writer("file")))
	r.grows("file")
	if err := stop(); !errors.Is(err, context.Canceled) {
		b.Errorf("cancelled: %v", err)
	}
	r.remove()
}

// testLeftovers: what a command leaves is gone when Run returns, however it
// tried to get away.
func testLeftovers(b *bench) {
	r := b.start()
	cmd := shell(`sh -c '` + writer("child") + `' & setsid sh -c '` + writer("session") + `' &
		(sh -c '` + writer("orphan") + `' &)
		while ! [ -s child ] || ! [ -s session ] || ! [ -s orphan ]; do :; done; exit 5`)
	if res, _ := r.run(cmd); res.ExitCode != 5 || res.Killed < 3 {
		b.Errorf("%+v, want at least 3 killed", res)
	}
	for _, name := range []string{"child", "session", "orphan"} {
		r.rests(name)
	}
	r.ok("true")
}

// testApart: to end the processes of one runner does nothing to another.
func testApart(b *bench) {
	one, two := b.start(), b.start()
	stop := two.background(shell(writer("file")))
	two.grows("file")
	one.ok("sleep 3600 & exit 0")
	if err := one.Freeze(b.ctx()); err != nil {
		b.Errorf("freeze: %v", err)
	}
	two.grows("file")
	one.remove()
	two.grows("file")
	if err := stop(); !errors.Is(err, context.Canceled) {
		b.Errorf("the other: %v", err)
	}
}

func testFrozenIsFrozen(b *bench) {
	r := b.start()
	stop := r.background(shell(writer("file")))
	for range 3 {
		r.grows("file")
		if err := r.Freeze(b.ctx()); err != nil {
			b.Fatalf("freeze: %v", err)
		}
		r.rests("file")
		if err := r.Thaw(b.ctx()); err != nil {
			b.Fatalf("thaw: %v", err)
		}
	}
	r.grows("file")
	if err := stop(); !errors.Is(err, context.Canceled) {
		b.Errorf("the command: %v", err)
	}
}

func testCPUTime(b *bench) {
	r := b.start()
	before, err := r.CPUTime(b.ctx())
	if err != nil {
		b.Fatal(err)
	}
	// About a tenth of a second, in a process that has ended since.
	res, _ := r.run(shell("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"))
	after, err := r.CPUTime(b.ctx())
	used := res.Usage.UserTime + res.Usage.SystemTime
	if err != nil || used == 0 || after-before < used/2 {
		b.Errorf("grew by %v, %v; the command used %v", after-before, err, used)
	}
}

// testMemory: a runner at rest holds its exec server, and little else. Where a
// backend limits memory it also counts it.
func testMemory(b *bench) {
	r := b.start()
	res, _ := r.run(shell("true"))
	held, err := r.Memory(b.ctx())
	if err != nil || held < 0 || held > 64<<20 || (held == 0 && res.Memory.Limit > 0) {
		b.Errorf("it holds %d bytes, %v; memory is %+v", held, err, res.Memory)
	}
}

func testRemovedWhenBusy(b *bench) {
	r := b.start()
	stop := r.background(shell(writer("file")))
	r.grows("file")
	if err := r.Remove(b.ctx()); err != nil {
		b.Errorf("remove: %v", err)
	}
	r.rests("file")
	if err := stop(); err == nil {
		b.Error("a command whose runner was removed ended without an error")
	}
}

func testRemovedWhenBusyAndFrozen(b *bench) {
	r := b.start()
	stop := r.background(shell(writer("file")))
	r.grows("file")
	if err := r.Freeze(b.ctx()); err != nil {
		b.Fatalf("freeze: %v", err)
	}
	if err := r.Remove(b.ctx()); err != nil {
		b.Errorf("remove: %v", err)
	}
	r.rests("file")
	if err := stop(); err == nil {
		b.Error("a command whose runner was removed ended without an error")
	}
}

// testHundred: a runner does not wear out.
func testHundred(b *bench) {
	r := b.start()
	for i := range 100 {
		if out := r.ok(fmt.Sprintf("echo %d", i)); out != fmt.Sprintf("%d\n", i) {
			b.Fatalf("command %d printed %q", i, out)
		}
	}
}
