package podman_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/podman"
)

// TestPodmanExec: the classic way, behind the same interface.
func TestPodmanExec(t *testing.T) {
	opts := options(t.TempDir())
	opts.ExecMode = podman.PodmanExec
	b := open(t, opts)
	t.Run("commands", func(t *testing.T) { testClassicCommands(t, start(t, b, runners.HostImage)) })
	t.Run("not started", func(t *testing.T) { testClassicNotStarted(t, start(t, b, runners.HostImage)) })
	t.Run("timeout", func(t *testing.T) { testClassicTimeout(t, start(t, b, runners.HostImage)) })
	t.Run("cancel", func(t *testing.T) { testClassicCancel(t, start(t, b, runners.HostImage)) })
	if left := processesOf(t, fmt.Sprintf("hearth-test-%d-", os.Getpid())); len(left) > 0 {
		t.Errorf("processes that podman exec left: %q", left)
	}
}

func testClassicCommands(t *testing.T, r *runner) {
	var stdout, stderr bytes.Buffer
	cmd := shell("id -u; pwd; echo $A; echo warning >&2; exit 3")
	cmd.Env, cmd.Dir = append(cmd.Env, "A=b c"), runners.ContainerWorkDir
	res, err := r.Run(ctx(t), cmd, &stdout, &stderr)
	if err != nil || res.ExitCode != 3 || res.TimedOut || res.Duration <= 0 || res.Memory.Kills != 0 {
		t.Errorf("%+v %v", res, err)
	}
	if stdout.String() != "65534\n/hearth/work\nb c\n" || stderr.String() != "warning\n" {
		t.Errorf("printed %q and %q", &stdout, &stderr)
	}
	if out := r.run(shell("head -c 1000000 /dev/zero")); len(out) != 1000000 {
		t.Errorf("%d bytes of output", len(out))
	}
	// Between commands it is paused; the pool need not know.
	if err := r.Freeze(ctx(t)); err != nil {
		t.Error(err)
	}
	if err := r.Thaw(ctx(t)); err != nil {
		t.Error(err)
	}
	res, err = r.Run(ctx(t), asRoot("sleep 3600 >/dev/null 2>&1 & exit 0"), io.Discard, io.Discard)
	if err != nil || res.ExitCode != 0 || res.Killed != 1 {
		t.Errorf("a command that leaves a process: %+v %v", res, err)
	}
	r.run(shell("true"))
}

// testClassicNotStarted: podman tells in its own words on stderr, and by exit codes.
func testClassicNotStarted(t *testing.T, r *runner) {
	var notStarted *runners.StartError
	if _, err := r.Run(ctx(t), runners.Command{Dir: "/"}, io.Discard, io.Discard); !errors.As(err, &notStarted) || notStarted.Fault() {
		t.Errorf("no arguments: %v", err)
	}
	noProgram := shell("true")
	noProgram.Args = []string{"hearth-no-such-program"}
	noDirectory := shell("true")
	noDirectory.Dir = "/no/such/directory"
	for _, cmd := range []runners.Command{noProgram, noDirectory} {
		var stderr strings.Builder
		res, err := r.Run(ctx(t), cmd, io.Discard, &stderr)
		said := res.ExitCode > 125 && strings.Contains(stderr.String(), "Error: ")
		if !said && (!errors.As(err, &notStarted) || notStarted.Fault()) {
			t.Errorf("%q in %s: %+v %v, %q", cmd.Args, cmd.Dir, res, err, stderr.String())
		}
	}
	r.run(shell("true"))
}

func testClassicTimeout(t *testing.T, r *runner) {
	cmd := shell("echo begun; sleep 3600")
	cmd.Timeout = 2 * time.Second
	var stdout strings.Builder
	res, err := r.Run(ctx(t), cmd, &stdout, io.Discard)
	if err != nil || !res.TimedOut || res.Duration < cmd.Timeout || stdout.String() != "begun\n" {
		t.Errorf("%+v %v, printed %q", res, err, stdout.String())
	}
	cmd = shell("trap 'echo asked; exit 3' TERM; while :; do sleep 0.01; done")
	cmd.Timeout, cmd.Grace = 2*time.Second, patience
	stdout.Reset()
	res, err = r.Run(ctx(t), cmd, &stdout, io.Discard)
	if err != nil || !res.TimedOut || res.ExitCode != 3 || stdout.String() != "asked\n" {
		t.Errorf("with grace: %+v %v, printed %q", res, err, stdout.String())
	}
	r.run(shell("true"))
}

func testClassicCancel(t *testing.T, r *runner) {
	c, cancel := context.WithCancel(ctx(t))
	errs := make(chan error, 1)
	go func() {
		_, err := r.Run(c, asRoot("echo x > /hearth/work/begun; sleep 3600"), io.Discard, io.Discard)
		errs <- err
	}()
	await(t, "the command runs", func() bool {
		_, err := os.Stat(r.work("begun"))
		return err == nil
	})
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
