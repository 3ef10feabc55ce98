package reapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/memory"
	"github.com/hearth-build/hearth/reapi/execution"
)

// scripted is a Write stream of given messages that then breaks.
type scripted struct {
	messages []*bytestream.WriteRequest
	end      error
}

func (s *scripted) RecvMsg(m any) error {
	if len(s.messages) == 0 {
		return s.end
	}
	data, err := proto.Marshal(s.messages[0])
	if err != nil {
		return err
	}
	s.messages = s.messages[1:]
	return m.(*writeMessage).decode(mem.BufferSlice{mem.SliceBuffer(data)})
}

// payloadOf is data as they are received.
func payloadOf(data []byte) payload { return payload{mem.BufferSlice{mem.SliceBuffer(data)}.Reader()} }

var errCut = errors.New("the connection was cut")

// testUpload is the i-th of several uploads of 100 bytes.
func testUpload(i int) (resource, []byte) {
	data := []byte(fmt.Sprintf("%099d!", i))
	return resource{upload: "id", digest: cas.SHA256.Sum(data)}, data
}

// brings is a call that brings data[from:to] and then breaks, or finishes.
func brings(t *testing.T, data []byte, from, to int, end error) *writeCall {
	t.Helper()
	in, err := receiveFirst(&scripted{[]*bytestream.WriteRequest{{WriteOffset: int64(from), Data: data[from:to], FinishWrite: end == nil}}, end})
	if err != nil {
		t.Fatal(err)
	}
	return newWriteCall(in)
}

// breakOff lets an upload break off after n bytes and reports whether it is kept.
func breakOff(t *testing.T, o *uploads, store cas.Putter, name resource, data []byte, n int) bool {
	t.Helper()
	call := brings(t, data, 0, n, errCut)
	u, err := o.start(t.Context(), store, name, call)
	if err != nil {
		t.Fatal(err)
	}
	committed, err := u.wait(t.Context(), call)
	if err != nil && !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	return err == nil && committed == int64(n)
}

// left is what the registry has: uploads that run, that can be found, that are
// parked, and the bytes of the last.
func (o *uploads) left() (running, found, parked int, held int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.running), len(o.byBlob), len(o.parked), o.held
}

func (o *uploads) wantEmpty(t *testing.T, when string) {
	t.Helper()
	if running, found, parked, held := o.left(); running+found+parked > 0 || held != 0 {
		t.Errorf("%s there are %d uploads, %d found by blob, %d parked of %d bytes", when, running, found, parked, held)
	}
}

// REAPI D20, D27: the window begins anew with every question.
func TestUploadsEndAfterTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, store := newUploads(uploadLimits{window: time.Minute, bytes: 1000, count: 10}), memory.New(0)
		name, data := testUpload(1)
		if !breakOff(t, o, store, name, data, 40) {
			t.Fatal("nothing is kept")
		}
		for range 5 {
			time.Sleep(59 * time.Second)
			if n := o.committed(name); n != 40 {
				t.Fatalf("%d bytes are kept, want 40", n)
			}
		}
		time.Sleep(59 * time.Second)
		call := brings(t, data, 40, 60, errCut)
		u, err := o.resume(name, call)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := u.wait(t.Context(), call); err != nil || n != 60 {
			t.Errorf("it stands at %d, %v", n, err)
		}
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if running, _, _, _ := o.left(); running != 1 {
			t.Error("it ended before its time")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		o.wantEmpty(t, "after the window")
		if n := o.committed(name); n != 0 {
			t.Errorf("%d bytes are kept after the window", n)
		}
		if _, err := o.resume(name, brings(t, data, 60, 100, nil)); !errors.Is(err, errInvalid) {
			t.Errorf("going on with it: %v", err)
		}
	})
}

// REAPI D20: what is kept is bounded, the longest forgotten goes first.
func TestUploadsAreBounded(t *testing.T) {
	for name, limits := range map[string]uploadLimits{
		"count": {window: time.Hour, bytes: 1 << 30, count: 3},
		"bytes": {window: time.Hour, bytes: 399, count: 100},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o, store := newUploads(limits), memory.New(0)
				for i := range 5 {
					name, data := testUpload(i)
					if !breakOff(t, o, store, name, data, 40) {
						t.Errorf("upload %d is not kept", i)
					}
				}
				synctest.Wait()
				for i := range 5 {
					name, _ := testUpload(i)
					if kept := o.committed(name) == 40; kept != (i >= 2) {
						t.Errorf("upload %d: kept %v", i, kept)
					}
				}
				if running, found, parked, held := o.left(); running != 3 || found != 3 || parked != 3 || held != 300 {
					t.Errorf("%d uploads, %d found by blob, %d parked of %d bytes; want 3 of 300", running, found, parked, held)
				}
				o.close()
				o.wait(t.Context())
			})
		})
	}
}

func TestUploadsThatAreNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New(0)
		name, data := testUpload(1)
		for what, o := range map[string]*uploads{
			"too large":  newUploads(uploadLimits{window: time.Hour, bytes: 99, count: 9}),
			"none is":    newUploads(uploadLimits{window: time.Hour, bytes: 999}),
			"just ended": newUploads(defaultUploadLimits()),
		} {
			n := 40
			if what == "just ended" {
				n = 0
			}
			if breakOff(t, o, store, name, data, n) || o.committed(name) != 0 {
				t.Errorf("%s: it is kept", what)
			}
			synctest.Wait()
			o.wantEmpty(t, what)
		}
		o := newUploads(defaultUploadLimits())
		o.close()
		if _, err := o.start(t.Context(), store, name, brings(t, data, 0, 50, errCut)); !errors.Is(err, execution.ErrDraining) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// stuckStore waits for its context before it reads anything.
type stuckStore struct{ cas.Store }

func (stuckStore) Put(ctx context.Context, _ *cas.Content) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// REAPI D20, I12: a store that is stuck hears that the client has gone.
func TestUploadIntoStuckStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newUploads(defaultUploadLimits())
		name, data := testUpload(1)
		gone := errors.New("the client has gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		call := brings(t, data, 0, 50, errCut)
		u, err := o.start(ctx, stuckStore{}, name, call)
		if err != nil {
			t.Fatal(err)
		}
		cancel(gone)
		if _, err := u.wait(ctx, call); !errors.Is(err, gone) {
			t.Errorf("the call ended with %v", err)
		}
		call = brings(t, data, 0, 50, errCut)
		if _, err = o.start(t.Context(), stuckStore{}, name, call); err != nil {
			t.Fatal(err)
		}
		o.close()
		o.wait(t.Context())
		o.wantEmpty(t, "after the end")
	})
}

// A store that does not even hear of its context holds the server up no longer
// than it is told to wait.
func TestWaitForDeafStoreEnds(t *testing.T) {
	o := newUploads(defaultUploadLimits())
	name, data := testUpload(1)
	release := make(chan struct{})
	u, err := o.start(t.Context(), deafStore{release: release}, name, brings(t, data, 0, 50, errCut))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	o.wait(ctx)
	if ctx.Err() == nil {
		t.Error("the wait ended before its time")
	}
	close(release)
	<-u.done
}

type deafStore struct {
	cas.Store
	release chan struct{}
}

func (s deafStore) Put(context.Context, *cas.Content) error {
	<-s.release
	return errCut
}

// REAPI D22: a call that takes over, a second that wants to as well, and bytes
// that came twice.
func TestTakeOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, store := newUploads(defaultUploadLimits()), memory.New(0)
		name, data := testUpload(7)
		hang := &hanging{until: make(chan struct{})}
		in, err := receiveFirst(&scripted{[]*bytestream.WriteRequest{{Data: data[:30]}}, nil})
		if err != nil {
			t.Fatal(err)
		}
		in.stream = hang
		first := newWriteCall(in)
		u, err := o.start(t.Context(), store, name, first)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := o.committed(name); n != 30 {
			t.Fatalf("%d bytes came", n)
		}
		second := brings(t, data, 30, 100, nil)
		if again, err := o.resume(name, second); err != nil || again != u {
			t.Fatalf("taking over: %v", err)
		}
		if _, err := o.resume(name, brings(t, data, 30, 100, nil)); !errors.Is(err, errReplaced) {
			t.Errorf("a third call: %v", err)
		}
		if _, err := u.wait(t.Context(), first); !errors.Is(err, errReplaced) {
			t.Errorf("the first call: %v", err)
		}
		close(hang.until) // as the end of its handler does
		if n, err := u.wait(t.Context(), second); err != nil || n != 100 {
			t.Errorf("the second call: %d, %v", n, err)
		}
		if got, err := cas.ReadAll(t.Context(), store, name.digest, 100); err != nil || string(got) != string(data) {
			t.Errorf("stored %q, %v", got, err)
		}
	})
}

// hanging is a stream whose client is gone without having said so.
type hanging struct{ until chan struct{} }

func (h *hanging) RecvMsg(any) error {
	<-h.until
	return errCut
}

// A call may begin with bytes that came after the client had asked.
func TestTakeOverSkipsWhatCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, store := newUploads(defaultUploadLimits()), memory.New(0)
		for i, tc := range []struct {
			to   int
			want error
		}{{100, nil}, {25, errInvalid}} {
			name, data := testUpload(10 + i)
			if !breakOff(t, o, store, name, data, 40) {
				t.Fatal("it is not kept")
			}
			o.mu.Lock()
			o.byBlob[name.key()].promised = 20 // as if the client had asked earlier
			o.mu.Unlock()
			call := brings(t, data, 20, tc.to, nil)
			u, err := o.resume(name, call)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := u.wait(t.Context(), call); !errors.Is(err, tc.want) {
				t.Errorf("up to %d: %v, want %v", tc.to, err, tc.want)
			}
		}
	})
}

// REAPI D20: many uploads that break off, go on and end leave nothing.
func TestUploadsLeaveNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	o, store := newUploads(uploadLimits{window: time.Hour, bytes: 1 << 20, count: 5}), memory.New(0)
	for i := range 200 {
		name, data := testUpload(i)
		breakOff(t, o, store, name, data, 10+i%50)
		if i%3 != 0 {
			continue
		}
		call := brings(t, data, 10+i%50, 100, nil)
		u, err := o.resume(name, call)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.wait(t.Context(), call); err != nil {
			t.Error(err)
		}
	}
	o.close()
	o.wait(t.Context())
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines before, %d after", before, runtime.NumGoroutine())
		}
	}
	o.wantEmpty(t, "at the end")
}

// The cost of an upload that goes through: with the registry, as several
// messages need it, and without, as one message does.
func BenchmarkUpload(b *testing.B) {
	name, data := testUpload(1)
	o := newUploads(defaultUploadLimits())
	b.Run("registered", func(b *testing.B) {
		for b.Loop() {
			call := newWriteCall(&incoming{stream: &scripted{end: io.EOF}, data: payloadOf(data), offset: 100, finished: true})
			u, err := o.start(b.Context(), memory.New(0), name, call)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := u.wait(b.Context(), call); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("direct", func(b *testing.B) {
		for b.Loop() {
			in := &incoming{stream: &scripted{end: io.EOF}, data: payloadOf(data), offset: 100, finished: true}
			if err := memory.New(0).Put(b.Context(), cas.NewContent(name.digest, in)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
