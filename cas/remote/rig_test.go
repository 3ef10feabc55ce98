package remote_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/actioncache"
	"github.com/hearth-build/hearth/cas/memory"
	"github.com/hearth-build/hearth/cas/remote"
	"github.com/hearth-build/hearth/reapi"
	"github.com/hearth-build/hearth/reapi/execution"
)

const instanceName = "team/one"

// rig is our own server on loopback, and a Store that reaches it through a proxy.
type rig struct {
	store  *remote.Store
	behind cas.Store // of the server
	proxy  *proxy
	calls  *calls
	server *reapi.Server
}

// quick are options for tests in which calls fail.
func quick() remote.Options {
	return remote.Options{
		Instance: instanceName, Retries: 4, MinDelay: time.Millisecond, MaxDelay: 100 * time.Millisecond,
		CallTimeout: 20 * time.Second, StallTimeout: 20 * time.Second,
	}
}

func newRig(t testing.TB, behind cas.Store, options remote.Options) *rig {
	t.Helper()
	r := &rig{behind: behind, calls: &calls{}}
	r.server = serve(t, behind)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- r.server.Serve(listener) }()
	t.Cleanup(func() {
		r.server.Finish()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	r.proxy = newProxy(t, listener.Addr().String())
	r.store = dial(t, "grpc://"+r.proxy.listener.Addr().String(), r.calls, options)
	return r
}

// dial makes a Store that is closed when the test ends.
func dial(t testing.TB, endpoint string, c *calls, options remote.Options) *remote.Store {
	t.Helper()
	conn, err := remote.Dial(endpoint, grpc.WithUnaryInterceptor(c.unary), grpc.WithStreamInterceptor(c.stream))
	if err != nil {
		t.Fatal(err)
	}
	store, err := remote.New(conn, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

// noExecution is the Executor of a server that is a cache only.
type noExecution struct{}

func (noExecution) Execute(context.Context, *execution.Task, execution.Report) *execution.Outcome {
	return &execution.Outcome{Err: execution.ErrInvalid}
}

func serve(t testing.TB, behind cas.Store) *reapi.Server {
	t.Helper()
	slots, err := execution.NewSlots(execution.SlotsOptions{
		Total: execution.Resources{MilliCPU: 1000, Memory: 1 << 30, Runners: 1}, MaxQueued: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	scheduler, err := execution.NewScheduler(execution.WithAdmission(noExecution{}, slots), slots, execution.SchedulerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = scheduler.Close(ctx) // says only whether runs had to be cancelled
	})
	server, err := reapi.NewServer(reapi.Instances{instanceName: {
		Name: instanceName, Store: behind, Results: actioncache.NewMemory(16 << 20),
	}}, scheduler)
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// calls counts what a client calls.
type calls struct {
	latency time.Duration // what each call with one answer takes longer

	mu     sync.Mutex
	counts map[string]int
	reads  []*bytestream.ReadRequest
	writes []*bytestream.WriteRequest // the first of each stream, without its data
}

func (c *calls) add(method string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = map[string]int{}
	}
	c.counts[method[lastSlash(method):]]++
}

func lastSlash(s string) int {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '/' {
			return i + 1
		}
	}
	return 0
}

func (c *calls) count(method string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts[method]
}

func (c *calls) unary(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	c.add(method)
	select {
	case <-time.After(c.latency):
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
	return invoke(ctx, method, req, reply, conn, opts...)
}

func (c *calls) stream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	c.add(method)
	s, err := open(ctx, desc, conn, method, opts...)
	return &recorded{ClientStream: s, calls: c}, err
}

// recorded remembers where streams begin.
type recorded struct {
	grpc.ClientStream
	calls *calls
}

func (r *recorded) SendMsg(m any) error {
	r.calls.mu.Lock()
	switch m := m.(type) {
	case *bytestream.ReadRequest:
		r.calls.reads = append(r.calls.reads, m)
	case *bytestream.WriteRequest:
		if m.GetResourceName() != "" {
			r.calls.writes = append(r.calls.writes, &bytestream.WriteRequest{ResourceName: m.GetResourceName(), WriteOffset: m.GetWriteOffset()})
		}
	}
	r.calls.mu.Unlock()
	return r.ClientStream.SendMsg(m)
}

// proxy passes connections on until it cuts them.
type proxy struct {
	listener net.Listener
	target   string
	up, down atomic.Int64 // bytes that may still pass; below zero all connections are cut
	again    atomic.Int64 // how many may pass after a cut until the next one
	work     sync.WaitGroup

	mu    sync.Mutex // guards all below
	conns map[net.Conn]struct{}
	cuts  int
	away  bool // refuses connections
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, target: target, conns: map[net.Conn]struct{}{}}
	p.again.Store(1 << 60)
	p.up.Store(1 << 60)
	p.down.Store(1 << 60)
	p.work.Go(p.accept)
	t.Cleanup(func() {
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
		p.cut()
		p.work.Wait()
	})
	return p
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil || !p.keep(client, server) {
			client.Close()
			if server != nil {
				server.Close()
			}
			continue
		}
		p.work.Go(func() { p.pass(server, client, &p.up) })
		p.work.Go(func() { p.pass(client, server, &p.down) })
	}
}

func (p *proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.away {
		return false
	}
	for _, c := range conns {
		p.conns[c] = struct{}{}
	}
	return true
}

// pass copies until either side ends or the allowance is used up.
func (p *proxy) pass(dst, src net.Conn, allowance *atomic.Int64) {
	defer dst.Close()
	defer src.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if left := allowance.Add(-int64(n)); left < 0 {
			allowance.Store(p.again.Load())
			p.cut()
			return
		}
		if _, writeErr := dst.Write(buf[:n]); writeErr != nil || err != nil {
			return
		}
	}
}

// cut breaks all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
	clear(p.conns)
	p.cuts++
}

// setAway makes the server unreachable, or reachable again.
func (p *proxy) setAway(away bool) {
	p.mu.Lock()
	p.away = away
	p.mu.Unlock()
	if away {
		p.cut()
	}
}

func (p *proxy) cutsSoFar() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cuts
}

// random returns n bytes that are the same in each run.
func random(seed byte, n int) []byte {
	data := make([]byte, n)
	if _, err := rand.NewChaCha8([32]byte{seed}).Read(data); err != nil {
		panic(err) // documented never to happen
	}
	return data
}

// text returns n bytes that compress well.
func text(n int) []byte {
	return bytes.Repeat([]byte("all work and no play makes a dull cache; "), n/41+1)[:n]
}

func put(t testing.TB, s cas.Putter, data []byte) cas.Digest {
	t.Helper()
	d, err := cas.PutBytes(t.Context(), s, cas.SHA256, data)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func mustHold(t testing.TB, s cas.Getter, d cas.Digest, want []byte) {
	t.Helper()
	if got, err := cas.ReadAll(t.Context(), s, d, d.Size()); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %v: %d bytes, %v", d, len(got), err)
	}
}

func newMemory() *memory.Store { return memory.New(0) }
