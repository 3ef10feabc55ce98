package tiered_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/memory"
	"github.com/hearth-build/hearth/cas/tiered"
)

func digestOf(t *testing.T, hash []byte, size int64) cas.Digest {
	t.Helper()
	d, err := cas.ParseDigest(cas.MD5, hex.EncodeToString(hash), size)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Put is done when the remote store has the blob, which is sent once.
func TestPutWritesThrough(t *testing.T) {
	for _, size := range []int{1000, 3 << 20} {
		remote, local := newFar(), openDisk(t, 1<<30)
		s := newStore(t, tiered.Options{Local: local, Remote: remote})
		data := random(1, size)
		var group errgroup.Group
		for range 32 {
			group.Go(func() error {
				d, err := cas.PutBytes(t.Context(), s, cas.SHA256, data)
				if err != nil {
					return err
				}
				if missing, err := remote.FindMissing(t.Context(), []cas.Digest{d}); err != nil || len(missing) > 0 {
					return fmt.Errorf("the remote store lacks the blob: %w", err)
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
		if puts := remote.puts.Load(); puts != 1 {
			t.Errorf("%d bytes: sent %d times", size, puts)
		}
		mustHold(t, local, cas.SHA256.Sum(data), data)
	}
}

func TestPutFailsRemotely(t *testing.T) {
	for _, size := range []int{1000, 3 << 20} {
		remote := newFar()
		s := newStore(t, tiered.Options{Local: memory.New(0), Remote: remote})
		data := random(2, size)
		d := cas.SHA256.Sum(data)
		for _, want := range []error{cas.ErrUnavailable, cas.ErrNoSpace, cas.ErrTooLarge} {
			remote.set(func(f *far) { f.err = fmt.Errorf("no: %w", want) })
			if err := s.Put(t.Context(), cas.Checked(d, data)); !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
		}
		remote.set(func(f *far) { f.err = nil })
		if missing, err := remote.FindMissing(t.Context(), []cas.Digest{d}); err != nil || len(missing) != 1 {
			t.Errorf("%v, %v", missing, err)
		}
		put(t, s, data)
		mustHold(t, remote, d, data)
	}
}

// Where the local tier has no room, the remote one gets the blob all the same.
func TestPutWithoutRoom(t *testing.T) {
	for _, full := range []error{cas.ErrNoSpace, cas.ErrTooLarge, errors.New("input/output error")} {
		for _, size := range []int{1000, 3 << 20} {
			remote := newFar()
			s := newStore(t, tiered.Options{Remote: remote, Local: &near{Local: memory.New(0), put: func(*cas.Content) error { return full }}})
			data := random(3, size)
			d := put(t, s, data)
			mustHold(t, remote, d, data)
			mustHold(t, s, d, data)
		}
	}
}

// A copy that was damaged on the local disk is no reason to refuse the blob.
func TestPutHealsTheLocalTier(t *testing.T) {
	for _, size := range []int{1000, 3 << 20} {
		remote := newFar()
		local := &damaged{near: near{Local: memory.New(0)}}
		s := newStore(t, tiered.Options{Local: local, Remote: remote, RememberFor: -1})
		data := random(4, size)
		local.damage = cas.SHA256.Sum(data)
		d := put(t, s, data)
		mustHold(t, remote, d, data)
		mustHold(t, s, d, data)
	}
}

// damaged is a local tier that seems to have a blob until it is read.
type damaged struct {
	near
	damage cas.Digest
}

func (l *damaged) Put(ctx context.Context, c *cas.Content) error {
	if c.Digest() == l.damage {
		return nil
	}
	return l.near.Put(ctx, c)
}

func (l *damaged) FindMissing(ctx context.Context, ds []cas.Digest) ([]cas.Digest, error) {
	if len(ds) == 1 && ds[0] == l.damage {
		return nil, nil
	}
	return l.near.FindMissing(ctx, ds)
}

func (l *damaged) Get(ctx context.Context, d cas.Digest, offset int64) (io.ReadCloser, error) {
	if d == l.damage {
		l.damage = cas.Digest{}
	}
	return l.near.Get(ctx, d, offset)
}

// A remote store that loses blobs gets them back from the local tier, up to a
// bound, and those that are gone are reported.
func TestRemoteLosesBlobs(t *testing.T) {
	remote, local := newFar(), memory.New(0)
	s := newStore(t, tiered.Options{Local: local, Remote: remote, RememberFor: -1, RestoreBytes: 1 << 20})
	small, large := []byte("small"), random(5, 2<<20)
	a, b := put(t, s, small), put(t, s, large)
	gone := put(t, remote, []byte("gone"))
	remote.lose(a, b, gone)
	missing, err := s.FindMissing(t.Context(), []cas.Digest{a, b, gone})
	if err != nil || len(missing) != 2 || missing[0] == a || missing[1] == a {
		t.Errorf("got %v, %v, want the large one and the one that is gone", missing, err)
	}
	mustHold(t, remote, a, small)
	mustHold(t, s, b, large) // reads go on
	unread := readerFunc(func([]byte) (int, error) { return 0, io.ErrNoProgress })
	if err := s.Put(t.Context(), cas.NewContent(b, unread)); err != nil { // nor need it come again
		t.Error(err)
	}
	mustHold(t, remote, b, large)
	if _, err := s.Get(t.Context(), gone, 0); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}

	remote.lose(a)
	remote.set(func(f *far) { f.err = cas.ErrUnavailable })
	if _, err := s.FindMissing(t.Context(), []cas.Digest{a}); !errors.Is(err, cas.ErrUnavailable) { // REAPI C6
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}

// What was seen is remembered for a while, and no longer than it is found lost.
func TestRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		remote := newFar()
		s := newStore(t, tiered.Options{Local: memory.New(0), Remote: remote, RememberFor: time.Minute, RememberMost: 100})
		var ds []cas.Digest
		for i := range 50 {
			ds = append(ds, put(t, remote, fmt.Append(nil, "blob ", i)))
		}
		find := func(calls int64, lost ...cas.Digest) {
			t.Helper()
			missing, err := s.FindMissing(t.Context(), ds)
			if err != nil || len(missing) != len(lost) {
				t.Errorf("%v, %v, want %v", missing, err, lost)
			}
			if got := remote.finds.Swap(0); got != calls {
				t.Errorf("%d calls, want %d", got, calls)
			}
		}
		find(1)
		find(0)
		time.Sleep(59 * time.Second)
		remote.lose(ds[0], ds[1])
		find(0) // which is the price
		if _, err := s.Get(t.Context(), ds[0], 0); !errors.Is(err, cas.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
		find(1, ds[0])
		time.Sleep(2 * time.Second)
		find(1, ds[0], ds[1])
		// More than is remembered.
		for i := range 200 {
			put(t, s, fmt.Append(nil, "other ", i))
		}
		find(1, ds[0], ds[1])
	})
}

// Uploads that their callers gave up do not fail those that still want them.
func TestOneUploadForAll(t *testing.T) {
	remote := newFar()
	s := newStore(t, tiered.Options{Local: memory.New(0), Remote: remote, RememberFor: -1})
	data := random(7, 1<<20)
	d := cas.SHA256.Sum(data)
	var group errgroup.Group
	for i := range 64 {
		group.Go(func() error {
			r := io.Reader(bytes.NewReader(data))
			if i%4 == 0 {
				r = io.MultiReader(io.LimitReader(r, 1000), readerFunc(func([]byte) (int, error) { return 0, io.ErrNoProgress }))
			}
			if err := s.Put(t.Context(), cas.NewContent(d, r)); i%4 != 0 && err != nil {
				return err
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	mustHold(t, remote, d, data)
}
