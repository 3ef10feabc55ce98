package remote_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/remote"
)

// REAPI D30, D32, K32: a read goes on where its connection broke, without
// compression, and gives the right bytes.
func TestReadGoesOn(t *testing.T) {
	for name, every := range map[string]int64{"once": 1 << 60, "again and again": 3 << 20} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, newMemory(), quick())
			data := random(5, 32<<20)
			d := put(t, r.behind, data)
			r.proxy.again.Store(every)
			r.proxy.down.Store(5 << 20)
			mustHold(t, r.store, d, data)
			r.calls.mu.Lock()
			defer r.calls.mu.Unlock()
			if n := len(r.calls.reads); n < 2 || every < 1<<30 && n < 8 {
				t.Fatalf("%d streams", n)
			}
			last := int64(-1)
			for i, read := range r.calls.reads {
				if packed := strings.Contains(read.GetResourceName(), "compressed-blobs"); packed != (i == 0) || read.GetReadOffset() < last || i > 0 && read.GetReadOffset() == 0 {
					t.Errorf("stream %d reads %q from %d on", i, read.GetResourceName(), read.GetReadOffset())
				}
				last = read.GetReadOffset()
			}
		})
	}
}

// REAPI D10, D25-D27: an upload of what can be read once goes on where the server
// has it.
func TestPutGoesOn(t *testing.T) {
	for name, every := range map[string]int64{"once": 1 << 60, "again and again": 6 << 20} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, newMemory(), quick())
			data := random(6, 32<<20)
			d := cas.SHA256.Sum(data)
			r.proxy.again.Store(every)
			r.proxy.up.Store(7 << 20)
			reads := 0
			once := readerFunc(func(p []byte) (int, error) {
				n := copy(p, data[reads:])
				if reads += n; n == 0 {
					return 0, io.EOF
				}
				return n, nil
			})
			if err := r.store.Put(t.Context(), cas.NewContent(d, once)); err != nil {
				t.Fatal(err)
			}
			mustHold(t, r.behind, d, data)
			mustGoOn(t, r)
		})
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// mustGoOn checks that streams did not all begin at the start.
func mustGoOn(t *testing.T, r *rig) {
	t.Helper()
	r.calls.mu.Lock()
	defer r.calls.mu.Unlock()
	if len(r.calls.writes) < 2 || r.calls.counts["QueryWriteStatus"] == 0 {
		t.Fatalf("%d streams, %v", len(r.calls.writes), r.calls.counts)
	}
	if last := r.calls.writes[len(r.calls.writes)-1]; last.GetWriteOffset() == 0 {
		t.Errorf("the last of %d streams began at 0", len(r.calls.writes))
	}
}

// An upload from a store begins compressed; after a break it goes on as it is.
func TestUploadGoesOn(t *testing.T) {
	for _, f := range []cas.Function{cas.SHA256, cas.BLAKE3} {
		r := newRig(t, newMemory(), quick())
		local, data := newMemory(), random(7, 48<<20)
		d, err := cas.PutBytes(t.Context(), local, f, data)
		if err != nil {
			t.Fatal(err)
		}
		r.proxy.again.Store(9 << 20)
		r.proxy.up.Store(3 << 20)
		if err := r.store.Upload(t.Context(), d, local); err != nil {
			t.Fatal(err)
		}
		mustHold(t, r.behind, d, data)
		mustGoOn(t, r)
		if name := r.calls.writes[0].GetResourceName(); !strings.Contains(name, "/compressed-blobs/zstd/") {
			t.Errorf("the first stream wrote %q", name)
		}
	}
}

// Everything works through a network that breaks all the time.
func TestUnsteadyNetwork(t *testing.T) {
	options := quick()
	options.Retries = 20
	r := newRig(t, newMemory(), options)
	r.proxy.again.Store(4 << 20)
	r.proxy.up.Store(1 << 20)
	r.proxy.down.Store(1 << 20)
	var group errgroup.Group
	group.SetLimit(6) // of 4 MiB, each gets some messages through
	for i := range 60 {
		group.Go(func() error {
			data := random(byte(i), []int{10, 30_000, 1 << 20}[i%3])
			d, err := cas.PutBytes(t.Context(), r.store, cas.SHA256, data)
			if err != nil {
				return err
			}
			got, err := cas.ReadAll(t.Context(), r.store, d, d.Size())
			if err == nil && cas.SHA256.Sum(got) != d {
				err = errors.New("another blob came")
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	if r.proxy.cutsSoFar() < 5 {
		t.Errorf("only %d cuts", r.proxy.cutsSoFar())
	}
}

// A server that is away for a while is waited for; one that stays away is
// ErrUnavailable, in every call.
func TestServerAway(t *testing.T) {
	options := quick()
	options.Retries = 100
	r := newRig(t, newMemory(), options)
	data := random(8, 1<<20)
	d := put(t, r.store, data)
	r.proxy.setAway(true)
	back := time.AfterFunc(200*time.Millisecond, func() { r.proxy.setAway(false) })
	defer back.Stop()
	mustHold(t, r.store, d, data)

	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	s := dial(t, "grpc://"+gone.Addr().String(), &calls{}, quick())
	small := cas.SHA256.Sum([]byte("small"))
	for name, call := range map[string]func() error{
		"Get":            func() error { _, err := s.Get(t.Context(), d, 0); return err },
		"Get small":      func() error { _, err := s.Get(t.Context(), small, 0); return err },
		"Put":            func() error { return s.Put(t.Context(), cas.Checked(d, data)) },
		"Upload":         func() error { return s.Upload(t.Context(), d, r.behind) },
		"FindMissing":    func() error { _, err := s.FindMissing(t.Context(), []cas.Digest{d}); return err },
		"Results.Get":    func() error { _, err := s.Results().Get(t.Context(), small); return err },
		"Results.Put":    func() error { return s.Results().Put(t.Context(), small, nil) },
		"Put, cancelled": func() error { return cancelledPut(t, s, d, data) },
	} {
		if err := call(); !errors.Is(err, cas.ErrUnavailable) || errors.Is(err, cas.ErrNotFound) {
			t.Errorf("%s: got %v, want ErrUnavailable", name, err)
		}
	}
}

// cancelledPut checks that a caller who gives up hears so, and nothing else.
func cancelledPut(t *testing.T, s *remote.Store, d cas.Digest, data []byte) error {
	why := errors.New("the client went away")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if err := s.Put(ctx, cas.Checked(d, data)); !errors.Is(err, why) || errors.Is(err, cas.ErrUnavailable) {
		return fmt.Errorf("got %w, want the cause", err)
	}
	return cas.ErrUnavailable
}

// The server goes away in the middle, for good.
func TestServerDies(t *testing.T) {
	data := random(9, 32<<20)
	d := cas.SHA256.Sum(data)
	t.Run("read", func(t *testing.T) {
		r := newRig(t, newMemory(), quick())
		put(t, r.behind, data)
		blob, err := r.store.Get(t.Context(), d, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer blob.Close()
		r.proxy.setAway(true)
		n, err := io.Copy(io.Discard, blob)
		if !errors.Is(err, cas.ErrUnavailable) || n == int64(len(data)) {
			t.Errorf("%d bytes, then %v, want ErrUnavailable", n, err)
		}
		if _, again := blob.Read(make([]byte, 1)); !errors.Is(again, cas.ErrUnavailable) {
			t.Errorf("the error does not come again: %v", again)
		}
	})
	t.Run("write", func(t *testing.T) {
		r := newRig(t, newMemory(), quick())
		half := io.MultiReader(strings.NewReader(string(data[:16<<20])), readerFunc(func([]byte) (int, error) {
			r.proxy.setAway(true)
			return 0, io.EOF
		}), strings.NewReader(string(data[16<<20:])))
		if err := r.store.Put(t.Context(), cas.NewContent(d, half)); !errors.Is(err, cas.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
		if missing, err := r.behind.FindMissing(t.Context(), []cas.Digest{d}); err != nil || len(missing) != 1 {
			t.Errorf("half a blob is there: %v", err)
		}
	})
}

// Nothing is left running after reads and uploads that were given up.
func TestNoLeaks(t *testing.T) {
	r := newRig(t, newMemory(), quick())
	data := random(10, 8<<20)
	d := put(t, r.behind, data)
	for i := range 50 {
		ctx, cancel := context.WithCancel(t.Context())
		blob, err := r.store.Get(ctx, d, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, blob, 1<<20); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			cancel()
		}
		if err := blob.Close(); err != nil {
			t.Error(err)
		}
		broken := io.MultiReader(strings.NewReader(string(data[:1<<20])), readerFunc(func([]byte) (int, error) { return 0, io.ErrNoProgress }))
		other := cas.SHA256.Sum(data[:4<<20])
		if err := r.store.Put(t.Context(), cas.NewContent(other, broken)); !errors.Is(err, io.ErrNoProgress) {
			t.Errorf("got %v, want the reader's error", err)
		}
		cancel()
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		// Streams of the client have a goroutine each that waits for their end.
		streams := strings.Count(string(stacks), "grpc.newClientStreamWithParams")
		if streams == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d streams are still open:\n%s", streams, stacks)
		}
		runtime.Gosched()
	}
}
