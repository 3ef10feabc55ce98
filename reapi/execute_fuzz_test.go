package reapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"golang.org/x/sys/unix"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// FuzzExecute: any Action, Command and Directory, as bytes or as messages, is
// executed or refused with a status of the table (REAPI 0.4, F43-F58), soon, and
// leaves nothing behind for later requests.
func FuzzExecute(f *testing.F) {
	// The one goroutine of os/signal stays for ever. The fuzzing engine would start it.
	c := make(chan os.Signal, 1)
	signal.Notify(c, os.Interrupt)
	signal.Stop(c)
	goroutines := runtime.NumGoroutine()
	f.Cleanup(func() {
		if left, ok := settled(goroutines); !ok {
			stacks := make([]byte, 1<<20)
			f.Errorf("%d goroutines, %d at the start:\n%s", left, goroutines, stacks[:runtime.Stack(stacks, true)])
		}
	})
	x := &executeFuzz{fixture: newActionFixture(f, acted)}
	for _, seed := range executeSeeds() {
		for _, script := range [][]byte{nil, []byte("\x01\x00\x03\x05\x02\x07"), []byte("a script of some length that changes several fields")} {
			f.Add(marshal(f, seed.action), marshal(f, seed.command), marshal(f, seed.root), script)
		}
	}
	f.Add([]byte("\xff"), []byte("\xff\xff"), []byte("\x0a\x03\x0a\x01\xff"), []byte{})
	x.goroutines = runtime.NumGoroutine()
	f.Fuzz(x.run)
}

// settled waits until there are no more goroutines than most, or for a while.
func settled(most int) (left int, ok bool) {
	for deadline := time.Now().Add(10 * time.Second); ; {
		left = runtime.NumGoroutine()
		if left <= most || time.Now().After(deadline) {
			return left, left <= most
		}
		<-time.After(5 * time.Millisecond)
	}
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

type executeSeed struct {
	action  *repb.Action
	command *repb.Command
	root    *repb.Directory
}

func executeSeeds() []executeSeed {
	recycled := &repb.Platform{Properties: []*repb.Platform_Property{{Name: "recycle-runner", Value: "true"}}}
	empty := cas.SHA256.Empty().Proto()
	root := &repb.Directory{
		Files: []*repb.FileNode{
			{Name: "in", Digest: empty, IsExecutable: true},
			{Name: "out2", Digest: empty, NodeProperties: &repb.NodeProperties{UnixMode: wrapperspb.UInt32(0o644)}},
		},
		Directories: []*repb.DirectoryNode{{Name: "d", Digest: empty}},
		Symlinks:    []*repb.SymlinkNode{{Name: "l", Target: "d"}, {Name: "m", Target: "/"}},
	}
	var seeds []executeSeed
	for _, args := range [][]string{
		{"do"},
		{"file:out/f", "dir:out/d", "link:out/l", "print:70000"},
		{"fifo:out/p"},
		{"exit:1", "abs:out/abs", "up:out/up"},
		{"signal:9"},
		{"lost:"},
		{"timeout:", "file:out/f"},
		{"missing:"},
		{"deep:out/deep"},
		{"bad:out/bad"},
		{"replace:"},
		{"oom:"},
		{"closed:out/closed"},
	} {
		seeds = append(seeds, executeSeed{
			&repb.Action{Timeout: durationpb.New(time.Minute), Platform: recycled},
			&repb.Command{Arguments: args, OutputPaths: []string{"out", "out/f", "out2"}, OutputNodeProperties: []string{"mtime", "unix_mode"}},
			root,
		})
	}
	return append(seeds,
		executeSeed{&repb.Action{DoNotCache: true, Salt: []byte("x")}, &repb.Command{
			Arguments: []string{"file:../out/f", "link:out/l"}, WorkingDirectory: "d", OutputFiles: []string{"../out/f", "out/l"},
			OutputDirectories: []string{"../out/d", ""}, OutputDirectoryFormat: 2, Platform: recycled,
			EnvironmentVariables: []*repb.Command_EnvironmentVariable{{Name: "A", Value: "b"}, {Name: "PATH", Value: "/bin"}},
		}, root},
		executeSeed{&repb.Action{}, &repb.Command{}, &repb.Directory{}},
	)
}

// executeFuzz is the server that all inputs of one process go to.
type executeFuzz struct {
	*fixture
	goroutines int
}

// run makes an action of the fuzzer's bytes and executes it.
func (x *executeFuzz) run(t *testing.T, actionBytes, commandBytes, rootBytes, script []byte) {
	e := &edits{bytes: script}
	functions := cas.Functions()
	function := functions[e.choose(len(functions))]
	put := func(data []byte) *repb.Digest {
		d, err := cas.PutBytes(t.Context(), x.instances[""].Store, function, data)
		if err != nil {
			t.Fatal(err)
		}
		return d.Proto()
	}
	leaf := put([]byte("some content"))
	action, command, root := &repb.Action{}, &repb.Command{}, &repb.Directory{}
	parsed := proto.Unmarshal(actionBytes, action) == nil
	commandBytes = edited(e, commandBytes, command, func() { e.message(command) })
	rootBytes = edited(e, rootBytes, root, func() {
		e.message(root)
		adopt(e, root, leaf, put(nil))
	})
	rootDigest := put(rootBytes)
	// A bomb: of few places, of hundreds, or of 2^24, which is too many. One that is
	// just small enough takes a minute to stage, and shows nothing else.
	for range []int{0, 4, 8, 24}[e.choose(4)] {
		rootDigest = put(marshal(t, &repb.Directory{Directories: []*repb.DirectoryNode{{Name: "a", Digest: rootDigest}, {Name: "b", Digest: rootDigest}}}))
	}
	if parsed {
		action.CommandDigest, action.InputRootDigest = put(commandBytes), rootDigest
		for range e.choose(4) {
			e.message(action)
		}
		if data, err := proto.Marshal(action); err == nil {
			actionBytes = data
		}
	}
	x.execute(t, &repb.ExecuteRequest{
		ActionDigest: put(actionBytes), DigestFunction: function.Proto(), SkipCacheLookup: e.choose(2) == 0,
		InlineStdout: e.choose(2) == 0, InlineOutputFiles: []string{"out/f"},
	})
}

// edited changes a message some times, if the bytes are one and a proto3 message
// can have what comes out.
func edited(e *edits, data []byte, m proto.Message, edit func()) []byte {
	if proto.Unmarshal(data, m) != nil {
		return data
	}
	for range e.choose(6) {
		edit()
	}
	if changed, err := proto.Marshal(m); err == nil {
		return changed
	}
	return data
}

// adopt gives most nodes digests of blobs that are there.
func adopt(e *edits, root *repb.Directory, leaf, empty *repb.Digest) {
	if e.choose(8) == 7 {
		return
	}
	for _, file := range root.GetFiles() {
		file.Digest = leaf
	}
	for _, dir := range root.GetDirectories() {
		dir.Digest = empty
	}
}

// execute checks the form of what comes back, and that it comes soon.
func (x *executeFuzz) execute(t *testing.T, req *repb.ExecuteRequest) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	stream, err := repb.NewExecutionClient(x.conn).Execute(ctx, req)
	var ops []*longrunningpb.Operation
	if err == nil {
		ops, err = collect(stream)
	}
	if ctx.Err() != nil {
		t.Fatalf("no answer in time: %v", err)
	}
	if err != nil {
		x.refused(t, err, codes.InvalidArgument, codes.FailedPrecondition)
		return
	}
	resp := response(t, ops)
	if s := status.ErrorProto(resp.GetStatus()); s != nil {
		x.refused(t, s, codes.InvalidArgument, codes.FailedPrecondition, codes.DeadlineExceeded, codes.Unavailable, codes.ResourceExhausted)
	}
	x.complete(t, req, resp)
	if n := runtime.NumGoroutine(); n > x.goroutines+100 {
		if left, ok := settled(x.goroutines + 100); !ok {
			t.Errorf("%d goroutines are left, %d at the start", left, x.goroutines)
		}
	}
}

// refused checks an error against the rows of the table that can be met here.
func (x *executeFuzz) refused(t *testing.T, err error, table ...codes.Code) {
	t.Helper()
	s := status.Convert(err)
	for _, code := range table {
		if s.Code() != code {
			continue
		}
		if s.Message() == "" || len(s.Message()) > 100_000 {
			t.Errorf("a message of %d bytes", len(s.Message()))
		}
		for _, detail := range s.Details() { // REAPI F61
			switch d := detail.(type) {
			case *errdetails.RetryInfo:
			case *errdetails.PreconditionFailure:
				if len(d.GetViolations()) == 0 || code != codes.FailedPrecondition {
					t.Errorf("%v: %v", err, d)
				}
			default:
				t.Errorf("%v has the detail %v", err, detail)
			}
		}
		return
	}
	t.Errorf("%v is in no row of the table that applies", err)
}

// complete checks that all that a result names can be had (REAPI F29).
func (x *executeFuzz) complete(t *testing.T, req *repb.ExecuteRequest, resp *repb.ExecuteResponse) {
	t.Helper()
	r := resp.GetResult()
	if r == nil {
		return
	}
	digests := []*repb.Digest{r.GetStdoutDigest(), r.GetStderrDigest()}
	paths := map[string]bool{}
	for _, o := range r.GetOutputFiles() {
		digests, paths[o.GetPath()] = append(digests, o.GetDigest()), true
	}
	for _, o := range r.GetOutputDirectories() {
		digests, paths[o.GetPath()] = append(digests, o.GetTreeDigest()), true
	}
	if len(paths) != len(r.GetOutputFiles())+len(r.GetOutputDirectories()) { // REAPI F67
		t.Errorf("an output is there twice: %v", r)
	}
	var wanted []cas.Digest
	for _, d := range digests {
		if d == nil {
			continue
		}
		digest, err := cas.FromProto(req.GetDigestFunction(), d)
		if err != nil {
			t.Errorf("the result has a bad digest: %v", err)
			continue
		}
		wanted = append(wanted, digest)
	}
	missing, err := x.instances[""].Store.FindMissing(t.Context(), wanted)
	if err != nil || len(missing) > 0 {
		t.Errorf("missing: %v, %v", missing, err)
	}
}

// acted is a command that does what its arguments say, inside its input root.
func acted(ctx context.Context, p runnertest.Process) (runners.Result, error) {
	if err := ctx.Err(); err != nil {
		return runners.Result{}, context.Cause(ctx)
	}
	res := runners.Result{Duration: time.Millisecond}
	root, err := os.OpenRoot(filepath.Join(p.Dir, runners.WorkDirName, "root"))
	if err != nil {
		return res, err
	}
	defer root.Close()
	for _, arg := range p.Args {
		what, operand, _ := strings.Cut(arg, ":")
		n, _ := strconv.Atoi(operand)
		switch what {
		case "exit":
			res.ExitCode = n & 0xff
		case "signal":
			res.Signal = syscall.Signal(n & 0x3f)
		case "timeout":
			res.TimedOut, res.Signal = true, syscall.SIGKILL
		case "oom":
			res.Memory, res.ExitCode = runners.Memory{Peak: 1 << 20, Limit: 1 << 20, Kills: 1}, 137
		case "lost":
			return runners.Result{}, errors.New("connection lost")
		case "missing":
			return runners.Result{}, &runners.StartError{Message: "there is no such program"}
		case "print":
			if _, err := io.CopyN(p.Stdout, zeros{}, int64(min(max(n, 0), 1<<20))); err != nil {
				return res, err
			}
		case "replace":
			if err := os.RemoveAll(root.Name()); err != nil {
				return res, err
			}
		default:
			// What cannot be made is not there, as with any command.
			_ = makeOutput(root, what, operand)
		}
	}
	return res, nil
}

// makeOutput makes something in the root, and never outside.
func makeOutput(root *os.Root, what, name string) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	switch what {
	case "file":
		return root.WriteFile(name, []byte(name), 0o755)
	case "dir":
		return errors.Join(root.MkdirAll(name+"/sub", 0o755), root.WriteFile(name+"/sub/f", nil, 0o644))
	case "link":
		return root.Symlink("f", name)
	case "abs":
		return root.Symlink("/etc/passwd", name)
	case "up":
		return root.Symlink("../../../../etc", name)
	case "deep":
		return root.MkdirAll(name+strings.Repeat("/d", 100), 0o755)
	case "bad":
		return root.WriteFile(name+"\xff", nil, 0o644)
	case "closed":
		return errors.Join(root.MkdirAll(name+"/sub", 0o755), root.Chmod(name, 0))
	case "fifo":
		dir, err := root.Open(path.Dir(name))
		if err != nil {
			return err
		}
		defer dir.Close()
		return unix.Mkfifoat(int(dir.Fd()), path.Base(name), 0o600)
	}
	return fmt.Errorf("%s is nothing to make", what)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
