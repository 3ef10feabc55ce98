package execution_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/tree"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// REAPI K2, F36: what Bazel 4 sends: the lists of API 2.0, and the platform in
// both messages.
func TestActionOfBazel4(t *testing.T) {
	r := newRig(t)
	r.command.Platform = r.action.GetPlatform()
	r.command.OutputFiles = []string{"bin/out", "bin/link"}
	r.command.OutputDirectories = []string{"bin/dir", "bin/dirlink"}
	r.program(func(root string, _ runnertest.Process) (runners.Result, error) {
		in := func(name string) string { return filepath.Join(root, "bin", name) }
		return runners.Result{}, errors.Join(
			os.WriteFile(in("out"), []byte("x"), 0o644), os.Symlink("out", in("link")),
			os.Mkdir(in("dir"), 0o755), os.Symlink("dir", in("dirlink")))
	})
	out := r.run(t.Context())
	res := out.Result
	if out.Err != nil || len(res.GetOutputFiles()) != 1 || len(res.GetOutputDirectories()) != 1 || len(res.GetOutputSymlinks()) != 0 ||
		len(res.GetOutputFileSymlinks()) != 1 || len(res.GetOutputDirectorySymlinks()) != 1 {
		t.Errorf("%+v", out)
	}
	if r.fake.Count(runnertest.OpStart) != 1 {
		t.Error("the platform was not understood")
	}
}

// REAPI K18, F32, F33: the timeouts of Bazel's test sizes, whole seconds up to an
// hour, are the command's alone, and an absent or zero one is the server's.
func TestActionTimeouts(t *testing.T) {
	for _, tc := range []struct {
		sent *durationpb.Duration
		want time.Duration
	}{
		{durationpb.New(time.Minute), time.Minute},
		{durationpb.New(5 * time.Minute), 5 * time.Minute},
		{durationpb.New(15 * time.Minute), 15 * time.Minute},
		{durationpb.New(time.Hour), time.Hour},
		{durationpb.New(2 * time.Hour), 2 * time.Hour},
		{durationpb.New(1), 1},
		{nil, time.Hour},
		{&durationpb.Duration{}, time.Hour},
	} {
		r := newRig(t)
		r.action.Timeout = tc.sent
		// To fetch the inputs takes longer than the shortest of them.
		r.files = map[string]string{"a": "x"}
		r.program(func(_ string, p runnertest.Process) (runners.Result, error) {
			if p.Timeout != tc.want {
				t.Errorf("timeout %v became %v", tc.sent, p.Timeout)
			}
			return runners.Result{}, nil
		})
		if out := r.run(t.Context()); out.Err != nil {
			t.Errorf("timeout %v: %v", tc.sent, out.Err)
		}
	}
}

// REAPI G17, G22, G23: what is odd and legal reaches the command as it was sent.
func TestActionOddCommand(t *testing.T) {
	r := newRig(t)
	r.command.Arguments = []string{"do", "", "a b", "$HOME", "*", "\n", "--"}
	r.command.EnvironmentVariables = []*repb.Command_EnvironmentVariable{
		{Name: "Z", Value: ""}, {Name: "A", Value: "x=y\nz"}, {Name: "M N", Value: "1"}, {Name: "\U0001F600", Value: "2"}, {Name: "\uFFFD", Value: "3"},
	}
	r.program(func(_ string, p runnertest.Process) (runners.Result, error) {
		if got, want := strings.Join(p.Args, "|"), strings.Join(r.command.Arguments, "|"); got != want {
			t.Errorf("arguments %q", got)
		}
		if got := strings.Join(p.Env, "|"); got != "Z=|A=x=y\nz|M N=1|\U0001F600=2|\uFFFD=3|PATH=/bin" {
			t.Errorf("environment %q", got)
		}
		return runners.Result{}, nil
	})
	if out := r.run(t.Context()); out.Err != nil {
		t.Error(out.Err)
	}
}

// REAPI G24, G28, G29: the working directory and the parents of outputs are
// checked before anything runs, and the client's mistakes cost no runner.
func TestActionRefusesDirectories(t *testing.T) {
	for name, change := range map[string]func(*repb.Command){
		"no working directory":      func(c *repb.Command) { c.WorkingDirectory = "absent" },
		"working directory: a file": func(c *repb.Command) { c.WorkingDirectory = "a" },
		"parent of an output":       func(c *repb.Command) { c.OutputPaths = []string{"a/out"} },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.files = map[string]string{"a": "x"}
			change(r.command)
			r.program(func(string, runnertest.Process) (runners.Result, error) {
				t.Error("it ran")
				return runners.Result{}, nil
			})
			if out := r.run(t.Context()); !errors.Is(out.Err, tree.ErrInvalid) {
				t.Errorf("%v", out.Err)
			}
			r.command, r.action.CommandDigest = &repb.Command{Arguments: []string{"do"}}, nil
			r.program(func(string, runnertest.Process) (runners.Result, error) { return runners.Result{}, nil })
			if out := r.run(t.Context()); out.Err != nil || r.fake.Count(runnertest.OpStart) != 1 {
				t.Errorf("the runner was not used again: %v", out.Err)
			}
		})
	}
}

// REAPI F56, F54: outputs that cannot be returned are the action's fault, and a
// timeout prevails over them; what was printed is there in both cases.
func TestActionBadOutputs(t *testing.T) {
	for _, timedOut := range []bool{false, true} {
		r := newRig(t)
		r.command.OutputPaths = []string{"fifo"}
		r.program(func(root string, p runnertest.Process) (runners.Result, error) {
			_, err := io.WriteString(p.Stdout, "made a fifo\n")
			return runners.Result{TimedOut: timedOut}, errors.Join(err, syscall.Mkfifo(filepath.Join(root, "fifo"), 0o600))
		})
		out := r.run(t.Context())
		want := tree.ErrOutput
		if timedOut {
			want = execution.ErrTimeout
		}
		var missing *cas.MissingError
		if !errors.Is(out.Err, want) || errors.As(out.Err, &missing) || out.Result.GetStdoutDigest().GetSizeBytes() != 12 {
			t.Errorf("timed out %v: %v, %v", timedOut, out.Err, out.Result)
		}
	}
}

// failing is a store that keeps nothing new.
type failing struct {
	cas.Store
	why error
}

func (s failing) Put(context.Context, *cas.Content) error { return s.why }

// REAPI F28, F57, K27: an output that could not be stored is an error and no
// result with a gap, and nothing is cached.
func TestActionCannotStore(t *testing.T) {
	for name, printed := range map[string]bool{"an output": false, "what was printed": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.command.OutputPaths = []string{"out"}
			r.action.CommandDigest = put(t, r.instance.Store, r.command).Proto()
			r.action.InputRootDigest = put(t, r.instance.Store, &repb.Directory{}).Proto()
			r.executor = execution.WithCaching(r.executor)
			r.instance.Store = failing{r.instance.Store, cas.ErrNoSpace}
			r.program(func(root string, p runnertest.Process) (runners.Result, error) {
				if printed {
					_, err := io.WriteString(p.Stderr, "x")
					return runners.Result{}, err
				}
				return runners.Result{}, os.WriteFile(filepath.Join(root, "out"), []byte("x"), 0o644)
			})
			for range 2 {
				if out := r.run(t.Context()); !errors.Is(out.Err, cas.ErrNoSpace) || out.Cached {
					t.Errorf("%+v", out)
				}
			}
		})
	}
}

// REAPI F64: what a command prints, however much, is held in a file and not in
// memory.
func TestActionPrintsMuch(t *testing.T) {
	const total, piece = 256 << 20, 1 << 20
	r := newRig(t)
	r.executor = execution.NewAction(execution.ActionOptions{
		Pool: r.pool, DefaultTimeout: time.Hour, MaxTimeout: time.Hour, SpoolDir: t.TempDir(), MaxPrinted: total,
	})
	sink := &sink{Store: r.instance.Store}
	r.program(func(_ string, p runnertest.Process) (runners.Result, error) {
		r.instance.Store = sink
		data := make([]byte, piece)
		for range total / piece {
			if _, err := p.Stdout.Write(data); err != nil {
				return runners.Result{}, err
			}
		}
		return runners.Result{}, nil
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	out := r.run(t.Context())
	runtime.ReadMemStats(&after)
	if out.Err != nil || out.Result.GetStdoutDigest().GetSizeBytes() != total || sink.bytes != total {
		t.Fatalf("%+v, %d bytes stored", out, sink.bytes)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<20 {
		t.Errorf("%d MiB were allocated for %d MiB", grown>>20, total>>20)
	}
}

// sink is a store that checks what it is given, and keeps none of it.
type sink struct {
	cas.Store
	bytes int64
}

func (s *sink) Put(_ context.Context, c *cas.Content) error {
	n, err := io.Copy(io.Discard, c)
	s.bytes += n
	return err
}
