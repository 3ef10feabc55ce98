package remote_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/castest"
	"github.com/hearth-build/hearth/cas/disk"
	"github.com/hearth-build/hearth/cas/memory"
	"github.com/hearth-build/hearth/cas/remote"
	"github.com/hearth-build/hearth/cas/tiered"
)

var _ tiered.Uploader = (*remote.Store)(nil)

func newTiered(t testing.TB, o tiered.Options) *tiered.Store {
	t.Helper()
	if o.Local == nil {
		o.Local = openDisk(t, 4<<30)
	}
	s, err := tiered.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func openDisk(t testing.TB, maxBytes int64) *disk.Store {
	t.Helper()
	d, err := disk.Open(t.Context(), disk.Options{Dir: t.TempDir(), MaxBytes: maxBytes, MinFreeBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d.Namespace("main")
}

// The two tiers together, as a worker uses them.
func TestTiered(t *testing.T) {
	castest.Test(t, func(t *testing.T) cas.Store {
		r := newRig(t, memory.New(castest.Budget), remote.Options{Instance: instanceName})
		s := newTiered(t, tiered.Options{Local: openDisk(t, castest.Budget), Remote: r.store, RememberFor: -1})
		return struct { // without leases, which the server behind has none of
			cas.Store
			cas.Linker
			cas.BatchPutter
			cas.BatchGetter
		}{s, s, s, s}
	})
}

// Many readers of one blob, some of which give up, are one stream, that goes on
// where the connection breaks.
func TestOneStreamForAll(t *testing.T) {
	r := newRig(t, newMemory(), quick())
	data := random(20, 32<<20)
	d, want := put(t, r.behind, data), sha256.Sum256(data)
	r.proxy.down.Store(10 << 20)
	s := newTiered(t, tiered.Options{Remote: r.store})
	var group errgroup.Group
	var waiting, gaveUp atomic.Int64
	joined := make(chan struct{})
	for i := range 32 {
		group.Go(func() error {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			blob, err := s.Get(ctx, d, 0)
			if waiting.Add(1) == 32 {
				close(joined)
			}
			<-joined
			if err != nil {
				return err
			}
			defer blob.Close()
			if i%4 == 0 {
				cancel()
			}
			got := sha256.New() // 32 copies would take a GiB
			_, err = io.Copy(got, blob)
			if i%4 == 0 && errors.Is(err, context.Canceled) {
				gaveUp.Add(1)
				return nil
			}
			if err == nil && !bytes.Equal(got.Sum(nil), want[:]) {
				err = errors.New("other bytes came")
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	if gaveUp.Load() != 8 {
		t.Errorf("%d gave up", gaveUp.Load())
	}
	if streams := r.calls.count("Read"); streams != 2 {
		t.Errorf("%d streams, want one, and one after the break", streams)
	}
}

// What an action needs comes in few calls, and what it makes goes the same way,
// while connections break.
func TestPrefetchAndPut(t *testing.T) {
	options := quick()
	options.Retries = 20
	r := newRig(t, newMemory(), options)
	r.calls.latency = 50 * time.Millisecond // as in TestAllTogether
	var ds []cas.Digest
	for i := range 3000 {
		ds = append(ds, put(t, r.behind, fmt.Appendf(nil, "input %d %s", i, random(byte(i), 2000))))
	}
	r.proxy.again.Store(2 << 20)
	r.proxy.down.Store(1 << 20)
	s := newTiered(t, tiered.Options{Remote: r.store})
	if err := s.Prefetch(t.Context(), ds); err != nil {
		t.Fatal(err)
	}
	if calls := r.calls.count("BatchReadBlobs"); calls > len(ds)/8 {
		t.Errorf("%d calls for %d blobs", calls, len(ds))
	}
	dir := t.TempDir()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	before := r.calls.count("BatchReadBlobs")
	for i, d := range ds[:200] {
		if err := s.Link(t.Context(), d, int(f.Fd()), fmt.Sprint(i), false); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(filepath.Join(dir, "7")); err != nil || cas.SHA256.Sum(got) != ds[7] {
		t.Errorf("a linked file: %d bytes, %v", len(got), err)
	}
	if r.calls.count("BatchReadBlobs") != before {
		t.Error("linking fetches what was there")
	}
	var group errgroup.Group
	for i := range 500 {
		group.Go(func() error {
			_, err := cas.PutBytes(t.Context(), s, cas.SHA256, fmt.Append(nil, "output ", i))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	for i := range 500 {
		data := fmt.Append(nil, "output ", i)
		mustHold(t, r.behind, cas.SHA256.Sum(data), data)
	}
}

// The network goes away in the middle of a blob: the reader hears of it, and no
// half of it stays.
func TestTieredRemoteDies(t *testing.T) {
	r := newRig(t, newMemory(), quick())
	data := random(21, 32<<20)
	d := put(t, r.behind, data)
	local := openDisk(t, 4<<30)
	s := newTiered(t, tiered.Options{Local: local, Remote: r.store})
	blob, err := s.Get(t.Context(), d, 0)
	if err != nil {
		t.Fatal(err)
	}
	r.proxy.setAway(true)
	if n, err := io.Copy(io.Discard, blob); !errors.Is(err, cas.ErrUnavailable) || n == int64(len(data)) {
		t.Errorf("%d bytes, then %v", n, err)
	}
	if err := blob.Close(); err != nil {
		t.Error(err)
	}
	if missing, err := local.FindMissing(t.Context(), []cas.Digest{d}); err != nil || len(missing) != 1 {
		t.Errorf("the local tier keeps half a blob: %v", err)
	}
	r.proxy.setAway(false)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); { // until it has connected again
		if _, err = s.FindMissing(t.Context(), []cas.Digest{d}); err == nil {
			break
		}
	}
	mustHold(t, s, d, data)
	mustHold(t, local, d, data)
}

func BenchmarkTieredMiss(b *testing.B) {
	for _, noCompression := range []bool{false, true} {
		b.Run(fmt.Sprintf("64MiB/compressed=%t", !noCompression), func(b *testing.B) {
			r := newRig(b, memory.New(0), remote.Options{Instance: instanceName, NoCompression: noCompression})
			data := random(22, 64<<20)
			b.SetBytes(64 << 20)
			for i := byte(0); b.Loop(); i++ {
				b.StopTimer()
				data[0] = i
				d := put(b, r.behind, bytes.Clone(data))
				s := newTiered(b, tiered.Options{Local: memory.New(100 << 20), Remote: r.store})
				b.StartTimer()
				mustHold(b, s, d, data)
			}
		})
	}
}
