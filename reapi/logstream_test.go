package reapi_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	logstream "github.com/bazelbuild/remote-apis/build/bazel/remote/logstream/v1"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc/codes"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// script is a command whose output the test decides while it runs.
type script struct {
	say  chan string // to stdout; "!" and more to stderr
	said chan struct{}
	end  chan error
}

func newScript() *script {
	return &script{say: make(chan string), said: make(chan struct{}), end: make(chan error)}
}

func (s *script) run(ctx context.Context, p runnertest.Process) (runners.Result, error) {
	for {
		select {
		case text := <-s.say:
			w := p.Stdout
			if rest, ok := strings.CutPrefix(text, "!"); ok {
				w, text = p.Stderr, rest
			}
			if _, err := io.WriteString(w, text); err != nil {
				return runners.Result{}, err
			}
			s.said <- struct{}{}
		case err := <-s.end:
			return runners.Result{}, err
		case <-ctx.Done():
			return runners.Result{}, context.Cause(ctx)
		}
	}
}

func (s *script) print(text string) { s.say <- text; <-s.said }

// running executes an action until its logs have names other than the last ones.
type running struct {
	stream         repb.Execution_ExecuteClient
	stdout, stderr string
}

func (f *fixture) startAction(req *repb.ExecuteRequest) *running {
	f.t.Helper()
	stream, err := repb.NewExecutionClient(f.conn).Execute(f.t.Context(), req)
	if err != nil {
		f.t.Fatal(err)
	}
	r := &running{stream: stream}
	r.awaitNames(f.t)
	return r
}

func (r *running) awaitNames(t testing.TB) {
	t.Helper()
	for old := r.stdout; r.stdout == old; {
		op, err := r.stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		md := &repb.ExecuteOperationMetadata{}
		if err := op.GetMetadata().UnmarshalTo(md); err != nil {
			t.Fatal(err)
		}
		r.stdout, r.stderr = md.GetStdoutStreamName(), md.GetStderrStreamName()
	}
}

func (r *running) finish(t testing.TB) *repb.ExecuteResponse {
	t.Helper()
	resp := &repb.ExecuteResponse{}
	for {
		op, err := r.stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if !op.GetDone() {
			continue
		}
		if err := op.GetResponse().UnmarshalTo(resp); err != nil {
			t.Fatal(err)
		}
		return resp
	}
}

// follower reads a log as it grows.
type follower struct {
	t      testing.TB
	stream bytestream.ByteStream_ReadClient
}

func (f *fixture) follow(req *bytestream.ReadRequest) *follower {
	f.t.Helper()
	stream, err := bytestream.NewByteStreamClient(f.conn).Read(f.t.Context(), req)
	if err != nil {
		f.t.Fatal(err)
	}
	return &follower{t: f.t, stream: stream}
}

// expect waits until exactly that came.
func (f *follower) expect(want string) {
	f.t.Helper()
	got := ""
	for len(got) < len(want) {
		resp, err := f.stream.Recv()
		if err != nil {
			f.t.Fatalf("after %q: %v", got, err)
		}
		got += string(resp.GetData())
	}
	if got != want {
		f.t.Errorf("read %.100q, want %.100q", got, want)
	}
}

func (f *follower) expectEnd() {
	f.t.Helper()
	if resp, err := f.stream.Recv(); !errors.Is(err, io.EOF) {
		f.t.Errorf("after the end: %v, %v", resp, err)
	}
}

// REAPI F8, D38: what a command prints can be read while it runs, by any number
// of readers, from any offset, and a moment longer.
func TestLogStreams(t *testing.T) {
	s := newScript()
	f := newActionFixture(t, s.run)
	r := f.startAction(f.putAction(&repb.Command{Arguments: []string{"x"}}, &repb.Directory{}))
	if !strings.HasPrefix(r.stdout, "logstreams/") || len(r.stdout) < len("logstreams/")+32 || r.stdout == r.stderr {
		t.Fatalf("names %q and %q", r.stdout, r.stderr)
	}
	out, errOut := f.follow(&bytestream.ReadRequest{ResourceName: r.stdout}), f.follow(&bytestream.ReadRequest{ResourceName: r.stderr})
	s.print("one\n")
	out.expect("one\n")
	s.print("!warning\n")
	errOut.expect("warning\n")
	late := f.follow(&bytestream.ReadRequest{ResourceName: r.stdout, ReadOffset: 2})
	late.expect("e\n")
	early := f.follow(&bytestream.ReadRequest{ResourceName: r.stdout, ReadOffset: 5})
	limited := f.follow(&bytestream.ReadRequest{ResourceName: r.stdout, ReadOffset: 1, ReadLimit: 5})
	s.print("two\n")
	out.expect("two\n")
	late.expect("two\n")
	early.expect("wo\n")
	limited.expect("ne\ntw")
	limited.expectEnd()
	big := strings.Repeat("0123456789abcdef", 100_000) // moves to a file, and takes several messages
	s.print(big)
	out.expect(big)
	tooFar := f.follow(&bytestream.ReadRequest{ResourceName: r.stdout, ReadOffset: 1 << 40})
	s.end <- nil
	for _, reader := range []*follower{out, errOut} {
		reader.expectEnd()
	}
	late.expect(big)
	late.expectEnd()
	_, err := tooFar.stream.Recv()
	wantCode(t, "an offset that is never reached", err, codes.OutOfRange)
	resp := r.finish(t)
	whole := "one\ntwo\n" + big
	for offset := range int64(3) { // from the store
		got, err := f.read(&bytestream.ReadRequest{ResourceName: r.stdout, ReadOffset: offset})
		if err != nil || string(got) != whole[offset:] {
			t.Errorf("afterwards, from %d: %d bytes, %v", offset, len(got), err)
		}
	}
	if resp.GetResult().GetStdoutDigest().GetSizeBytes() != int64(len(whole)) {
		t.Errorf("result %v", resp.GetResult())
	}
	if got, err := f.read(&bytestream.ReadRequest{ResourceName: r.stdout, ReadOffset: int64(len(whole))}); len(got) > 0 || err != nil {
		t.Errorf("at the end: %q, %v", got, err)
	}
}

// A reader that does not read holds up neither the action nor other readers, and
// gets all of it later. What it takes meanwhile is a buffer.
func TestLogStreamSlowReader(t *testing.T) {
	s := newScript()
	f := newActionFixture(t, s.run)
	r := f.startAction(f.putAction(&repb.Command{Arguments: []string{"x"}}, &repb.Directory{}))
	slow := f.follow(&bytestream.ReadRequest{ResourceName: r.stdout})
	piece := strings.Repeat("x", 1<<20)
	for range 64 { // far more than is on its way in the network
		s.print(piece)
	}
	s.end <- nil
	if resp := r.finish(t); resp.GetResult().GetStdoutDigest().GetSizeBytes() != 64<<20 {
		t.Fatalf("%v", resp)
	}
	for range 64 {
		slow.expect(piece)
	}
	slow.expectEnd()
}

// A run that begins anew has logs of its own; the old ones end.
func TestLogStreamOfALostRunner(t *testing.T) {
	s := newScript()
	f := newActionFixture(t, s.run)
	r := f.startAction(f.putAction(&repb.Command{Arguments: []string{"x"}}, &repb.Directory{}))
	first := r.stdout
	behind, ahead := f.follow(&bytestream.ReadRequest{ResourceName: first}), f.follow(&bytestream.ReadRequest{ResourceName: first, ReadOffset: 100})
	s.print("first\n")
	behind.expect("first\n")
	s.end <- errors.New("connection lost")
	behind.expectEnd()
	_, err := ahead.stream.Recv()
	wantCode(t, "beyond what was lost", err, codes.OutOfRange)
	r.awaitNames(t)
	second := f.follow(&bytestream.ReadRequest{ResourceName: r.stdout})
	s.print("second\n")
	second.expect("second\n")
	_, err = f.read(&bytestream.ReadRequest{ResourceName: first})
	wantCode(t, "the first log, again", err, codes.Aborted)
	s.end <- nil
	second.expectEnd()
	r.finish(t)
}

// REAPI D38, A27: names of logs cannot be guessed, written to, or used elsewhere.
func TestLogStreamNames(t *testing.T) {
	s := newScript()
	f := newActionFixture(t, s.run)
	req := f.putAction(&repb.Command{Arguments: []string{"x"}}, &repb.Directory{})
	r := f.startAction(req)
	s.print("secret")
	_, id, _ := strings.Cut(r.stdout, "/")
	for name, code := range map[string]codes.Code{
		"logstreams/" + id + "x":          codes.NotFound,
		"team/one/logstreams/" + id:       codes.NotFound,
		"nobody/logstreams/" + id:         codes.InvalidArgument,
		"logstreams/" + id + "/token":     codes.InvalidArgument,
		"logstreams/":                     codes.InvalidArgument,
		"/logstreams/" + id:               codes.InvalidArgument,
		"blobs/logstreams/" + id:          codes.InvalidArgument,
		"uploads/u/logstreams/" + id:      codes.InvalidArgument,
		"operations/logstreams/" + id:     codes.InvalidArgument,
		"team/one/logstreams/logstreams/": codes.InvalidArgument,
	} {
		_, err := f.read(&bytestream.ReadRequest{ResourceName: name})
		wantCode(t, "read "+name, err, code)
	}
	_, err := f.read(&bytestream.ReadRequest{ResourceName: r.stdout, ReadOffset: -1})
	wantCode(t, "negative offset", err, codes.OutOfRange)
	_, err = f.read(&bytestream.ReadRequest{ResourceName: r.stdout, ReadLimit: -1})
	wantCode(t, "negative limit", err, codes.InvalidArgument)
	_, err = f.write(&bytestream.WriteRequest{ResourceName: r.stdout, Data: []byte("x"), FinishWrite: true})
	wantCode(t, "write", err, codes.InvalidArgument)
	_, err = bytestream.NewByteStreamClient(f.conn).QueryWriteStatus(t.Context(), &bytestream.QueryWriteStatusRequest{ResourceName: r.stdout})
	wantCode(t, "query", err, codes.InvalidArgument)
	_, err = logstream.NewLogStreamServiceClient(f.conn).CreateLogStream(t.Context(), &logstream.CreateLogStreamRequest{Parent: ""})
	wantCode(t, "create", err, codes.Unimplemented)
	s.end <- nil
	r.finish(t)
}

// Requests that share a run share its logs; those of another instance name it.
func TestLogStreamsAreShared(t *testing.T) {
	s := newScript()
	f := newActionFixture(t, s.run)
	req := f.putAction(&repb.Command{Arguments: []string{"x"}}, &repb.Directory{})
	one, two := f.startAction(req), f.startAction(req)
	if one.stdout != two.stdout {
		t.Errorf("one run has logs %q and %q", one.stdout, two.stdout)
	}
	reader := f.follow(&bytestream.ReadRequest{ResourceName: one.stdout})
	s.print("x")
	reader.expect("x")
	s.end <- nil
	one.finish(t)
	two.finish(t)
	// A result from the cache was printed by nobody.
	ops, err := f.execute(req)
	if err != nil || !response(t, ops).GetCachedResult() {
		t.Fatalf("%v %v", ops, err)
	}
	md := &repb.ExecuteOperationMetadata{}
	if err := ops[len(ops)-1].GetMetadata().UnmarshalTo(md); err != nil || md.GetStdoutStreamName() != "" {
		t.Errorf("%v %v", md, err)
	}
}

// REAPI F64: what comes out of the store is what was printed, also when nobody
// followed it, with flat memory on both sides.
func TestLogStreamIsByteExact(t *testing.T) {
	data := bytes.Repeat([]byte("\x00\xff\r\n"), 200_000)
	f := newActionFixture(t, func(_ context.Context, p runnertest.Process) (runners.Result, error) {
		_, err := p.Stdout.Write(data)
		return runners.Result{ExitCode: 1}, err
	})
	ops, err := f.execute(f.putAction(&repb.Command{Arguments: []string{"x"}}, &repb.Directory{}))
	if err != nil {
		t.Fatal(err)
	}
	response(t, ops)
	md := &repb.ExecuteOperationMetadata{}
	if err := ops[len(ops)-1].GetMetadata().UnmarshalTo(md); err != nil {
		t.Fatal(err)
	}
	if got, err := f.read(&bytestream.ReadRequest{ResourceName: md.GetStdoutStreamName()}); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if got, err := f.read(&bytestream.ReadRequest{ResourceName: md.GetStderrStreamName()}); err != nil || len(got) > 0 {
		t.Errorf("stderr: %d bytes, %v", len(got), err)
	}
}
