package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/remote"
	"github.com/hearth-build/hearth/runners/runnertest"
)

func TestBackingFlags(t *testing.T) {
	name, bad := "main", "a/blobs"
	for _, good := range []backingFlags{
		{},
		{CAS: "grpc://cache.example:8980"},
		{CAS: "grpcs://cache.example:443", AC: "unix:///run/ac.sock", CASInstance: &name},
	} {
		if err := good.validate("127.0.0.1:8980", []string{"one"}); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	c := backingFlags{CAS: "cache.example:8980", AC: "grpc://127.0.0.1:8980", CASInstance: &bad}
	err := c.validate("127.0.0.1:8980", []string{"one", "two"})
	for _, want := range []string{
		`--cas: endpoint "cache.example:8980": want grpc://HOST:PORT`, "--ac grpc://127.0.0.1:8980 is this server itself",
		`--cas-instance: invalid request: instance name "a/blobs"`, "each would see what the others have",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	self := backingFlags{CAS: "unix:///run/hearth.sock"}
	if err := self.validate("unix:///run/hearth.sock", nil); err == nil || !strings.Contains(err.Error(), "is this server itself") {
		t.Errorf("%+v: %v", self, err)
	}
	for _, alone := range []backingFlags{{AC: "grpc://a:1"}, {CASInstance: &name}} {
		if err := alone.validate("", nil); err == nil || !strings.Contains(err.Error(), "need --cas") {
			t.Errorf("%+v: %v", alone, err)
		}
	}
}

// serving is `hearth serve` in this process.
type serving struct {
	t        *testing.T
	address  string
	endpoint string
	stack    *stack
	served   chan error
	stopped  sync.Once
	log      logged
}

// serve starts with the flags of a command line.
func serve(t *testing.T, address, dataDir string, flags ...string) *serving {
	t.Helper()
	var c cli
	parser, _, err := newParser(&c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(append([]string{"serve", "--listen=" + address, "--data-dir=" + dataDir}, flags...)); err != nil {
		t.Fatal(err)
	}
	if err := c.Serve.validate(); err != nil {
		t.Fatal(err)
	}
	listener, endpoint, err := c.Serve.Listening.open()
	if err != nil {
		t.Fatal(err)
	}
	s := &serving{t: t, address: listener.Addr().String(), endpoint: endpoint, served: make(chan error, 1)}
	logger := slog.New(slog.NewTextHandler(&s.log, nil))
	if s.stack, err = c.Serve.newStack(t.Context(), logger, endpoint); err != nil {
		t.Fatal(err)
	}
	go func() { s.served <- s.stack.server.Serve(listener) }()
	t.Cleanup(s.stop)
	return s
}

// logged is what a server has logged.
type logged struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (s *serving) stop() {
	s.stopped.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := errors.Join(s.stack.stop(ctx), <-s.served); err != nil {
			s.t.Error(err)
		}
		s.stack.close(slog.Default())
		if s.t.Failed() {
			s.t.Logf("the server at %s logged:\n%s", s.address, s.log.String())
		}
	})
}

// client is a Store and action cache that the server has for an instance name.
func (s *serving) client(instance string) *remote.Store {
	s.t.Helper()
	conn, err := remote.Dial("grpc://" + s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	store, err := remote.New(conn, remote.Options{Instance: instance, Retries: -1})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := errors.Join(store.Close(), conn.Close()); err != nil {
			s.t.Error(err)
		}
	})
	return store
}

// putAction stores an action that joins two input files, in store alone.
func putAction(t *testing.T, store cas.Store, salt string) cas.Digest {
	t.Helper()
	putBytes := func(data []byte) *repb.Digest {
		d, err := cas.PutBytes(t.Context(), store, cas.SHA256, data)
		if err != nil {
			t.Fatal(err)
		}
		return d.Proto()
	}
	put := func(m proto.Message) *repb.Digest {
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return putBytes(data)
	}
	large := bytes.Repeat([]byte("a large input of "+salt+"\n"), 20_000)
	root := put(&repb.Directory{Files: []*repb.FileNode{
		{Name: "large", Digest: putBytes(large)}, {Name: "small", Digest: putBytes([]byte("and a small one\n"))},
	}})
	command := put(&repb.Command{Arguments: []string{"/bin/sh", "-c", "cat large small | tail -n 2 | tee out"}, OutputPaths: []string{"out"}})
	d, err := cas.FromProto(repb.DigestFunction_SHA256, put(&repb.Action{CommandDigest: command, InputRootDigest: root, Salt: []byte(salt)}))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// execute runs an action.
func (s *serving) execute(instance string, action cas.Digest) (*repb.ExecuteResponse, error) {
	conn, err := remote.Dial("grpc://" + s.address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stream, err := repb.NewExecutionClient(conn).Execute(s.t.Context(), &repb.ExecuteRequest{InstanceName: instance, ActionDigest: action.Proto()})
	if err != nil {
		return nil, err
	}
	for {
		op, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if op.GetDone() {
			resp := &repb.ExecuteResponse{}
			return resp, op.GetResponse().UnmarshalTo(resp)
		}
	}
}

// backed are two servers, the second of which has its blobs on the first.
func backed(t *testing.T, flags ...string) (back, front *serving, restart func() *serving) {
	t.Helper()
	dir, err := os.MkdirTemp("", "hearth-backed-") // t.TempDir is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	program, err := runnertest.BuildExecServer(dir)
	if err != nil {
		t.Fatal(err)
	}
	start := func(address, name string, flags ...string) *serving {
		return serve(t, address, filepath.Join(dir, name), append(flags, "--execserver="+program)...)
	}
	const atBack = "--instance=team/back"
	back = start("127.0.0.1:0", "b", atBack)
	front = start("127.0.0.1:0", "f", append(flags, "--cas=grpc://"+back.address)...)
	return back, front, func() *serving { return start(back.address, "b", atBack) }
}

// An action whose inputs are on another server runs here; what it makes is there,
// and known there. REAPI C7, E1.
func TestBackedByAnotherServer(t *testing.T) {
	back, front, _ := backed(t, "--instance=team/front", "--cas-instance=team/back")
	atBack, atFront := back.client("team/back"), front.client("team/front")
	action := putAction(t, atBack, "one")
	resp, err := front.execute("team/front", action)
	if err != nil || resp.GetStatus().GetCode() != 0 || resp.GetResult().GetExitCode() != 0 || resp.GetCachedResult() {
		t.Fatalf("%v, %v", resp, err)
	}
	const want = "a large input of one\nand a small one\n"
	out, err := cas.FromProto(repb.DigestFunction_SHA256, resp.GetResult().GetOutputFiles()[0].GetDigest())
	if err != nil {
		t.Fatal(err)
	}
	for name, store := range map[string]*remote.Store{"back": atBack, "front": atFront} {
		if got, err := cas.ReadAll(t.Context(), store, out, out.Size()); err != nil || string(got) != want {
			t.Errorf("%s: the output is %q, %v", name, got, err)
		}
		if got, err := store.Results().Get(t.Context(), action); err != nil || !proto.Equal(got.GetOutputFiles()[0], resp.GetResult().GetOutputFiles()[0]) {
			t.Errorf("%s: the result is %v, %v", name, got, err)
		}
	}
	if resp, err := front.execute("team/front", action); err != nil || !resp.GetCachedResult() {
		t.Errorf("the second time: %v, %v", resp, err)
	}
	// What is missing is named, wherever it should be. REAPI F44.
	absent := cas.SHA256.Sum([]byte("no such action"))
	if _, err := front.execute("team/front", absent); err == nil || !strings.Contains(err.Error(), "code = FailedPrecondition") {
		t.Errorf("an absent action: %v", err)
	}
}

// While the other server is away, callers hear that they should try again, and
// nothing has to be restarted when it is back. REAPI 0.5, C6.
func TestBackIsAway(t *testing.T) {
	back, front, restart := backed(t, "--instance=team/back")
	first, second := putAction(t, back.client("team/back"), "one"), putAction(t, back.client("team/back"), "two")
	if resp, err := front.execute("team/back", first); err != nil || resp.GetStatus().GetCode() != 0 {
		t.Fatalf("%v, %v", resp, err)
	}
	back.stop()
	client := front.client("team/back")
	var group sync.WaitGroup
	for what, call := range map[string]func() error{
		"find": func() error {
			_, err := client.FindMissing(t.Context(), []cas.Digest{cas.SHA256.Sum([]byte("unknown"))})
			return err
		},
		"put": func() error {
			_, err := cas.PutBytes(t.Context(), client, cas.SHA256, bytes.Repeat([]byte("x"), 1<<20))
			return err
		},
		"get": func() error {
			_, err := client.Get(t.Context(), cas.SHA256.Sum([]byte("unknown")), 0)
			return err
		},
		"look up": func() error {
			_, err := client.Results().Get(t.Context(), second)
			return err
		},
		"execute": func() error {
			_, err := front.execute("team/back", second)
			if err != nil && strings.Contains(err.Error(), "code = Unavailable") {
				return fmt.Errorf("%w: %w", cas.ErrUnavailable, err)
			}
			return err
		},
	} {
		group.Go(func() {
			if err := call(); !errors.Is(err, cas.ErrUnavailable) {
				t.Errorf("%s: got %v, want that the server is away", what, err)
			}
		})
	}
	group.Wait()
	// Copies are good for reading.
	if got, err := cas.ReadAll(t.Context(), client, first, first.Size()); err != nil || cas.SHA256.Sum(got) != first {
		t.Errorf("a copy: %v", err)
	}
	restart()
	for deadline := time.Now().Add(time.Minute); ; { // until it has connected again
		resp, err := front.execute("team/back", second)
		if err == nil && resp.GetStatus().GetCode() == 0 && resp.GetResult().GetExitCode() == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not recover: %v, %v", resp, err)
		}
	}
}

// A server that is away when this one starts is no reason not to start, but one to
// say so. REAPI A28.
func TestBackIsAwayAtTheStart(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := gone.Addr().String()
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	front := serve(t, "127.0.0.1:0", t.TempDir(), "--execserver=/bin/true", "--cas=grpc://"+address)
	if said := front.log.String(); !strings.Contains(said, "nothing works until it does") || !strings.Contains(said, address) {
		t.Errorf("it said: %s", said)
	}
	if _, err := front.client("").Limits(t.Context()); !errors.Is(err, cas.ErrUnavailable) {
		t.Errorf("capabilities that nobody knows: %v", err)
	}
}
